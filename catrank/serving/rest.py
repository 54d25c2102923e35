"""The addresses of the REST interface: ``/v1/segment``, ``/v1/model`` and ``/v1/health``."""

import asyncio
import logging
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, FastAPI, File, Form, Request, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from catrank import Model
from catrank.serving.engine import Busy, Engine, Job, once
from catrank.serving.gate import no_address
from catrank.serving.kept import Gone
from catrank.serving.limits import Limits, TooLarge, Upload, client_name
from catrank.serving.replies import Output, Reply, reply
from catrank.serving.requests import Question, has_dial, segment_upload
from catrank.serving.schemas import AnnotationFile, Failure, Health, ModelInfo, Segmentation
from segcore.errors import MESSAGE_CHARACTERS, UserError, printable
from segcore.rankseg.dial import ClassesKept

RETRY_SECONDS = 2
POLL_SECONDS = 0.25  # between two looks whether a client is still there
COPY_BYTES = 1 << 20

logger = logging.getLogger(__name__)

FAILURES: dict[int | str, dict[str, Any]] = {
    400: {"model": Failure, "description": "The image or a value cannot be used."},
    403: {"model": Failure, "description": "The request is that of another web site."},
    413: {"model": Failure, "description": "The request has too many bytes."},
    422: {"model": Failure, "description": "A field is missing or is not what it should be."},
    500: {"model": Failure, "description": "The server failed; its log says why."},
    503: {
        "model": Failure,
        "description": "The queue is full.",
        "headers": {"Retry-After": {"schema": {"type": "string"}, "description": "Seconds."}},
    },
}
COMMON: dict[int | str, dict[str, Any]] = {code: FAILURES[code] for code in (403, 413, 500)}


@dataclass(frozen=True)
class Service:
    """What the addresses work with.

    Attributes:
        model: of all requests.
        name: of the model.
        engine: its queue.
        limits: of a request.
        alpha: weight of the colours in overlays, 0 to 1.
    """

    model: Model
    name: str
    engine: Engine
    limits: Limits
    alpha: float = 0.55

    def describe(self) -> dict[str, Any]:
        """Return the fields of :class:`ModelInfo`."""
        return {
            "name": self.name,
            "architecture": self.model.cfg.MODEL.META_ARCHITECTURE,
            "open_vocabulary": self.model.open_vocabulary,
            "adjustable_keep": has_dial(self.model),
            "classes": [*self.model.class_names],
            "limits": asdict(self.limits),
        }


def rest_router(service: Service) -> APIRouter:
    """Return the addresses of the REST interface."""
    router = APIRouter(prefix="/v1")

    @router.get("/health", response_model=Health, responses=COMMON)
    async def health() -> dict[str, str]:
        """Whether the server works."""
        return {"status": "ok"}

    @router.get("/model", response_model=ModelInfo, responses=COMMON)
    async def model() -> dict[str, Any]:
        """The model and the limits of a request."""
        return service.describe()

    @router.post(
        "/segment",
        response_model=None,
        responses={
            200: {
                "model": Segmentation | AnnotationFile,
                "description": "The result, in the format of the field output.",
                "content": {"image/png": {"schema": {"type": "string", "format": "binary"}}},
            },
            **FAILURES,
        },
    )
    async def segment(
        request: Request,
        image: Annotated[UploadFile, File(description="The image; its name occurs in results.")],
        classes: Annotated[
            str | None, Form(description="Class names with commas: sky, tree, my dog.")
        ] = None,
        min_score: Annotated[float | None, Form(ge=0, le=1, description="Of objects.")] = None,
        keep: Annotated[
            str | None,
            Form(description="Classes kept: a number, a probability, both (32,0.05), or all."),
        ] = None,
        output: Annotated[
            Output,
            Form(description="json: masks in COCO's RLE; labels and overlay: PNG; coco; labelme."),
        ] = "json",
    ) -> Response:
        """Segment an image."""
        question = Question(
            service.limits.class_names(classes),
            min_score,
            ClassesKept.parse(keep, "keep") if keep else None,
        )
        question.check(service.model)
        name = client_name(image.filename)
        with tempfile.TemporaryDirectory(prefix="catrank-") as folder:
            upload = Upload(Path(folder) / "upload", name)
            await run_in_threadpool(_store, image, upload, service.limits)

            def work() -> Reply:
                result = segment_upload(service.model, upload, question, service.limits)
                return reply(result, output, service.alpha)

            made = await finish(request, service.engine.submit(once(work)))
        headers = {"content-disposition": attachment(Path(name).stem + made.ending)}
        return Response(made.content, media_type=made.media_type, headers=headers)

    return router


def _store(image: UploadFile, upload: Upload, limits: Limits) -> None:
    """Write an upload into its file and check its header."""
    count = 0
    with upload.path.open("wb") as file:
        while block := image.file.read(COPY_BYTES):
            count += len(block)
            limits.check_bytes(count)
            file.write(block)
    with upload.named():
        limits.check_image(upload.path)


async def finish(request: Request, job: Job[Any, Reply]) -> Reply:
    """Wait for the reply to a request; drop the work where the client has gone.

    Raises:
        HTTPException: the client has gone, 499.
        UserError: the work failed.
    """
    future = asyncio.wrap_future(job.future)
    try:
        while not future.done():
            await asyncio.wait([future], timeout=POLL_SECONDS)
            if not future.done() and await request.is_disconnected():
                raise HTTPException(499, "the client has gone")
        if future.cancelled():
            raise Busy("the server is shutting down")
        return future.result()
    finally:
        future.cancel()


def attachment(name: str) -> str:
    """Return the header for a download of this name, by RFC 6266."""
    return f"attachment; filename*=UTF-8''{quote(name, safe='')}"


def add_error_handlers(app: FastAPI, limits: Limits) -> None:
    """Let every error be JSON with one message."""

    @app.exception_handler(UserError)
    async def user_error(_: Request, error: UserError) -> JSONResponse:
        status = {TooLarge: 413, Busy: 503, Gone: 404}.get(type(error), 400)
        headers = {"Retry-After": str(RETRY_SECONDS)} if status == 503 else None
        return _failure(status, str(error), headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        field = str(first["loc"][-1])
        return _failure(422, f"the field {field} is wrong: {first['msg']}")

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> JSONResponse:
        message = str(error.detail)
        if error.status_code == 400:  # of the parser of forms
            message = (
                f"the form cannot be read ({message}): send an image and at most {limits.words} "
                "class names"
            )
        elif error.status_code in (404, 405):
            message = no_address(request.method, request.url.path)
        return _failure(error.status_code, message, error.headers)

    @app.exception_handler(Exception)
    async def failed(_: Request, error: Exception) -> JSONResponse:
        logger.error("a request failed: %s", printable(error))
        return _failure(500, "the server failed; its log says why")


def _failure(status: int, error: str, headers: Any = None) -> JSONResponse:
    message = printable(error, MESSAGE_CHARACTERS)
    return JSONResponse({"error": message}, status, headers)
