"""The addresses from which the page uploads files and downloads results.

Gradio's own addresses for files are not used, and closed: they take paths from clients.
"""

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, Response
from PIL import Image
from starlette.concurrency import run_in_threadpool

from catrank import Result
from catrank.serving.examples import example_images
from catrank.serving.kept import Gone, Kept
from catrank.serving.limits import Limits, Upload, client_name
from catrank.serving.replies import OUTPUTS, Reply, png, reply
from catrank.serving.rest import Service, attachment
from segcore.errors import UserError

PREFIX = "/page"


class Uploaded(NamedTuple):
    """A file of the page; ``is_video`` says whether it is a video or an image."""

    upload: Upload
    is_video: bool


@dataclass(frozen=True)
class Shown:
    """A result that the page shows.

    Attributes:
        name: of the upload.
        view: JSON for the page.
        result: of an image.
        video: the file of a segmented video.
    """

    name: str
    view: bytes
    result: Result | None = None
    video: Path | None = None

    @property
    def size(self) -> int:
        """Bytes of memory or disk."""
        held = [] if self.result is None else vars(self.result).values()
        arrays = sum(each.nbytes for each in held if isinstance(each, np.ndarray))
        return len(self.view) + arrays + (self.video.stat().st_size if self.video else 0)


class PageFiles:
    """Uploads and results of the page; their files are in a folder that ends with the process."""

    def __init__(self, limits: Limits) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="catrank-serve-")
        self.folder = Path(self._folder.name)
        self.limits = limits
        self.uploads: Kept[Uploaded] = Kept(
            limits.kept_bytes, lambda it: it.upload.path.unlink(missing_ok=True)
        )
        self.results: Kept[Shown] = Kept(
            limits.kept_bytes, lambda it: it.video.unlink(missing_ok=True) if it.video else None
        )

    def new_path(self, suffix: str = "") -> Path:
        """Return an unused path in the folder."""
        with tempfile.NamedTemporaryFile(dir=self.folder, suffix=suffix, delete=False) as file:
            return Path(file.name)

    def check(self, upload: Upload) -> dict[str, Any]:
        """Keep an upload that is an image or a video, and return what the page needs of it.

        Raises:
            UserError: it is neither, or is beyond a limit.
        """
        limits, is_video = self.limits, False
        with upload.named():
            try:
                height, width = limits.check_image(upload.path)
            except UserError as no_image:
                if "cannot read" not in str(no_image):
                    raise  # an image with too many pixels
                try:
                    limits.open_video(upload.path)
                except UserError as no_video:
                    if "it is no video" in str(no_video):
                        raise UserError(
                            f"{upload.path} is no image or video that can be read: convert images "
                            "to PNG or JPEG and videos to MP4"
                        ) from no_video
                    raise
                is_video, height, width = True, 0, 0
        key = self.uploads.add(Uploaded(upload, is_video), upload.path.stat().st_size)
        return {"key": key, "video": is_video, "width": width, "height": height}


def file_router(service: Service, files: PageFiles) -> APIRouter:
    """Return the addresses."""
    router = APIRouter(prefix=PREFIX, include_in_schema=False)
    examples = [png(Image.fromarray(each)) for each in example_images(service.model.class_names)]

    @router.post("/uploads")
    async def upload(request: Request, name: str = "") -> dict[str, Any]:
        path, count = files.new_path(), 0
        try:
            with path.open("wb") as file:
                async for block in request.stream():
                    count += len(block)
                    files.limits.check_bytes(count)
                    file.write(block)
            kept = await run_in_threadpool(files.check, Upload(path, client_name(name)))
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return kept

    @router.get("/examples")
    async def number_of_examples() -> int:
        return len(examples)

    @router.get("/examples/{number}.png")
    async def example(number: int) -> Response:
        if not 0 <= number < len(examples):
            raise Gone("there is no such example")
        return Response(examples[number], media_type="image/png")

    @router.get("/results/{key}/view")
    async def view(key: str) -> Response:
        return Response(files.results.get(key).view, media_type="application/json")

    @router.get("/results/{key}/video")
    async def video(key: str) -> Response:
        shown = files.results.get(key)
        if shown.video is None:
            raise Gone("this result is of an image")
        return FileResponse(shown.video, media_type="video/mp4")

    @router.get("/results/{key}/{output}")
    async def download(key: str, output: str, alpha: float = service.alpha) -> Response:
        shown = files.results.get(key)
        if shown.result is None or output not in OUTPUTS:
            raise Gone("there is no such download")
        result, alpha = shown.result, min(max(alpha, 0.0), 1.0)
        made: Reply = await run_in_threadpool(reply, result, output, alpha)
        headers = {"content-disposition": attachment(Path(shown.name).stem + made.ending)}
        return Response(made.content, media_type=made.media_type, headers=headers)

    return router


def as_view(content: dict[str, Any]) -> bytes:
    """Return what the page shows as JSON."""
    return json.dumps(content, separators=(",", ":")).encode()
