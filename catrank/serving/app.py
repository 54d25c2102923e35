"""The service as one ASGI application, and its server."""

import ipaddress
import socket
from collections.abc import Sequence

import uvicorn
from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from catrank.serving.gate import Gate
from catrank.serving.rest import Service, add_error_handlers, rest_router
from segcore.errors import UserError, printable

SHUTDOWN_SECONDS = 3  # for requests that are not done at Ctrl-C
CONNECTIONS = 512


def make_app(service: Service, *, loopback: bool = True, origins: Sequence[str] = ()) -> ASGIApp:
    """Return the application.

    Args:
        service: the model with its queue and limits.
        loopback: whether the server is bound to loopback.
        origins: of other web sites that may send requests; none by default.
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
    return Gate(app, limits=service.limits, loopback=loopback, origins=origins)


def serve(app: ASGIApp, host: str, port: int) -> None:
    """Serve an application until Ctrl-C.

    Raises:
        UserError: the address cannot be used.
    """
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        log_level="warning",
        limit_concurrency=CONNECTIONS,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        server_header=False,
    )
    with listen(host, port) as listening:
        bound = listening.getsockname()[1]
        name = f"[{host}]" if ":" in host else host
        print(f"serving on http://{name}:{bound} (REST: /v1/openapi.json); Ctrl-C ends", flush=True)
        uvicorn.Server(config).run(sockets=[listening])


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
