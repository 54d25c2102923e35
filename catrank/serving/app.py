"""The service as one ASGI application, and its server."""

import asyncio
import ipaddress
import logging
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import uvicorn
from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from catrank.serving.gate import Gate
from catrank.serving.rest import Service, add_error_handlers, rest_router
from segcore.errors import UserError, printable

SHUTDOWN_SECONDS = 3  # for requests that are not done when the server ends
CONNECTIONS = 512


def make_app(
    service: Service,
    *,
    loopback: bool = True,
    origins: Sequence[str] = (),
    with_page: bool = True,
) -> ASGIApp:
    """Return the application.

    Args:
        service: the model with its queue and limits.
        loopback: whether the server is bound to loopback.
        origins: of other web sites that may send requests; none by default.
        with_page: whether there is the page beside the REST interface.
    """
    app = FastAPI(
        title="CatRank",
        summary="Segment images over large and open vocabularies",
        version="1",
        openapi_url="/v1/openapi.json",
        docs_url=None,  # its scripts come from another server
        redoc_url=None,
    )
    app.include_router(rest_router(service))
    add_error_handlers(app, service.limits)
    app.add_middleware(CORSMiddleware, allow_origins=[*origins], allow_methods=["GET", "POST"])
    if with_page:
        add_page(app, service)
    return Gate(app, limits=service.limits, loopback=loopback, origins=origins)


def add_page(app: FastAPI, service: Service) -> None:
    """Add the page at the root of an application, with the addresses that it needs."""
    from catrank.serving.files import PageFiles, file_router
    from catrank.serving.page import make_page, mount  # Gradio takes seconds to import

    files = PageFiles(service.limits)
    app.include_router(file_router(service, files))
    mount(app, make_page(service, files))


def serve(app: ASGIApp, host: str, port: int) -> None:
    """Serve an application until Ctrl-C.

    Raises:
        UserError: the address cannot be used.
    """
    with listen(host, port) as listening:
        bound = listening.getsockname()[1]
        name = f"[{host}]" if ":" in host else host
        print(f"serving on http://{name}:{bound} (REST: /v1/openapi.json); Ctrl-C ends", flush=True)
        make_server(app).run(sockets=[listening])


def make_server(app: ASGIApp) -> uvicorn.Server:
    """Return the server of an application; it runs on sockets of :func:`listen`."""
    config = uvicorn.Config(
        app,
        log_level="warning",
        limit_concurrency=CONNECTIONS,
        timeout_graceful_shutdown=2 * SHUTDOWN_SECONDS,
        server_header=False,
    )
    return Server(config)


class Server(uvicorn.Server):
    """A server that ends in bounded time and quietly while pages are open.

    An open page holds a stream that never completes. Cancelled, it would leave a traceback in the
    log; its connection is closed instead, as a closed page does it.
    """

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let requests complete for a while, then close all connections and end the application."""
        asyncio.get_running_loop().call_later(SHUTDOWN_SECONDS, self._close_connections)
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(super().shutdown(sockets), 3 * SHUTDOWN_SECONDS)

    def _close_connections(self) -> None:
        for connection in [*self.server_state.connections]:
            connection.transport.close()


@contextmanager
def running(app: ASGIApp) -> Iterator[str]:
    """Serve an application from a thread, on a free port of loopback, and yield the address."""
    server = make_server(app)
    with listen("127.0.0.1", 0) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(4 * SHUTDOWN_SECONDS)
            if thread.is_alive():
                logging.getLogger(__name__).warning("the server does not end; it is left behind")


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket; port 0 is any free one.

    Raises:
        UserError: the address cannot be used.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        raise UserError(
            f"cannot listen on {printable(host)}, port {port} ({printable(error)}): give another "
            "--host or --port"
        ) from error


def is_loopback(host: str) -> bool:
    """Return whether an address is reachable from this machine alone."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
