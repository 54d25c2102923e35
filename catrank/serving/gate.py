"""What is refused before any address sees it: foreign web sites, and requests with too many bytes.

A browser sends requests of any web site that its user visits. A request that names another origin
than the server's own is refused, unless that origin is allowed; and a server on loopback takes only
names of loopback, since a foreign name may resolve to it. Gradio has many addresses; those that the
page does not use are closed, those that take or serve files by a path first of all.
"""

import json
import re
from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from catrank.serving.limits import Limits, TooLarge
from segcore.errors import printable

# The REST interface, the files of the page, and what the page uses of Gradio.
ADDRESSES = re.compile(
    r"/|/(v1|page)/.*|/(static|assets|svelte)/.*|/config/?|/theme\.css|/favicon\.ico|/manifest\.json"
    r"|/robots\.txt|/gradio_api/(queue/join|queue/data|run/predict|cancel|reset|startup-events)/?"
    r"|/gradio_api/heartbeat/\w+"
)
LOOPBACK = ("localhost", "127.0.0.1", "::1")
FORM_BYTES = 1 << 20  # of a form around its file
# The page loads nothing from elsewhere, and no other site shows it in a frame. Gradio's own code
# needs inline scripts and styles, and compiles templates.
HEADERS = {
    "content-security-policy": (
        "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; frame-ancestors 'self'; "
        "base-uri 'self'; form-action 'self'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}


class Gate:
    """ASGI middleware."""

    def __init__(
        self, app: ASGIApp, *, limits: Limits, loopback: bool, origins: Sequence[str] = ()
    ) -> None:
        """
        Args:
            app: behind it.
            limits: of the bytes of a request.
            loopback: whether the server is bound to loopback.
            origins: further origins that may send requests, ``https://example.org``, or ``*``.
        """
        self._app, self._limits, self._origins = app, limits, set(origins)
        self._hosts = (
            {*LOOPBACK, *(urlsplit(origin).hostname for origin in origins)} if loopback else None
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return  # there are no websockets
        headers = Headers(scope=scope)
        if failure := self._foreign(headers):
            await refuse(send, 403, failure)
            return
        if not ADDRESSES.fullmatch(scope["path"]):
            await refuse(send, 404, no_address(scope["method"], scope["path"]))
            return
        counted = _Counted(receive, self._limits)
        try:
            counted.expect(headers.get("content-length", ""))
        except HTTPException as error:
            await refuse(send, error.status_code, error.detail)
            return
        await self._app(scope, counted, _with_headers(send))

    def _foreign(self, headers: Headers) -> str | None:
        """Why a request is that of another web site; None where it is not."""
        host = headers.get("host", "")
        if self._hosts is not None and _hostname(host) not in self._hosts:
            return (
                f"the server listens on this machine alone and not as {printable(host, 80)}: use "
                "localhost, or allow the address with --allow-origin"
            )
        origin = headers.get("origin")
        if origin is None or {origin, "*"} & self._origins or urlsplit(origin).netloc == host:
            return None
        return f"requests of the web site {printable(origin, 80)} are not allowed (--allow-origin)"


class _Counted:
    """The body of a request, which ends with an error behind the limit."""

    def __init__(self, receive: Receive, limits: Limits) -> None:
        self._receive, self._limits, self._read = receive, limits, 0

    def expect(self, length: str) -> None:
        """Check the size that a request states."""
        self._check(int(length) if length.isdecimal() and length.isascii() else 0)

    async def __call__(self) -> Message:
        message = await self._receive()
        self._read += len(message.get("body", b""))
        self._check(self._read)
        return message

    def _check(self, count: int) -> None:
        try:
            self._limits.check_bytes(count - FORM_BYTES)
        except TooLarge as error:
            raise HTTPException(413, str(error)) from error


def no_address(method: str, path: str) -> str:
    """Return the error message for an address that there is not."""
    return f"{method} {printable(path)} is no address of this server"


async def refuse(send: Send, status: int, error: str) -> None:
    """Reply with an error."""
    body = json.dumps({"error": error}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    headers.append((b"connection", b"close"))  # the body may still be on its way
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _with_headers(send: Send) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(HEADERS)
        await send(message)

    return send_with_headers


def _hostname(host: str) -> str | None:
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None
