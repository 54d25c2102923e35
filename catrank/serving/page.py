"""The page, with Gradio: its layout and its one event.

The two parts with files and images are HTML components whose scripts are ``source.js`` and
``view.js``: they put every text of a user into the document as text. The event gets keys, words and
numbers, and never a file.
"""

import html
import json
import os
from collections.abc import Iterator
from concurrent.futures import CancelledError, wait
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from catrank.serving.engine import once
from catrank.serving.files import PageFiles, Shown, Uploaded, as_view
from catrank.serving.requests import (
    Question,
    has_dial,
    segment_upload,
    segment_uploaded_video,
)
from catrank.serving.rest import Service
from catrank.serving.view import view_of, view_of_video
from segcore.errors import UserError
from segcore.rankseg.dial import ClassesKept

# Before Gradio is imported: it reports nothing to anyone, and starts no Node server.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ["GRADIO_RUN_HISTORY"] = "False"
os.environ["GRADIO_SSR_MODE"] = "False"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"

import gradio as gr

POLL_SECONDS = 0.2
MOST_KEPT = 256  # of the dial
SHOWN_CLASSES = 5
FOLDER = Path(__file__).parent
FONTS = ["system-ui", "sans-serif"]  # of the reader's system: nothing is loaded


def make_page(service: Service, files: PageFiles) -> gr.Blocks:
    """Return the page.

    Args:
        service: the model with its queue and limits.
        files: uploads and results.
    """
    model, limits = service.model, service.limits
    with gr.Blocks(title="CatRank", analytics_enabled=False, fill_width=True) as page:
        gr.HTML(_about(service), elem_id="about")
        with gr.Row():
            with gr.Column(scale=1, min_width=320):
                source = _component("source", elem_id="source")
                words = gr.Textbox(
                    label="Class names",
                    placeholder="sky, tree, my dog",
                    info=f"Separated by commas. Empty: the {len(model.class_names)} of the model.",
                    lines=3,
                    max_lines=10,
                    visible=model.open_vocabulary,
                    elem_id="words",
                )
                kept = gr.Slider(
                    0,
                    MOST_KEPT,
                    value=0,
                    step=1,
                    label="Classes kept",
                    info="The most probable classes of an image, ranked. 0: as the model says.",
                    visible=has_dial(model),
                    elem_id="kept",
                )
                with gr.Row():
                    start = gr.Button("Segment", variant="primary", min_width=80, elem_id="start")
                    stop = gr.Button("Stop", min_width=80, elem_id="stop")
            with gr.Column(scale=3, min_width=480):
                view = _component("view", elem_id="view")
        event = start.click(
            partial(_segment, service, files),
            [source, words, kept],
            [view],
            concurrency_limit=limits.queue,
            show_progress="hidden",
            api_visibility="private",
            trigger_mode="once",
        )
        stop.click(lambda: _message(state="stopped"), None, [view], cancels=[event], queue=False,
                   api_visibility="private", show_progress="hidden")  # fmt: skip
    page.queue(max_size=2 * limits.queue, api_open=False)
    for block in page.blocks.values():
        block.async_move_resource_to_block_cache = _no_files
        block.move_resource_to_block_cache = _no_files
    return page


def mount(app: Any, page: gr.Blocks) -> None:
    """Mount the page on a FastAPI application, at its root."""
    gr.mount_gradio_app(
        app,
        page,
        path="/",
        theme=_theme(),
        css=(FOLDER / "page.css").read_text("utf-8"),
        footer_links=[],
        run_history=False,
        allowed_paths=[],
        max_file_size=1,  # nothing is uploaded to Gradio
        show_error=False,
        ssr_mode=False,
        mcp_server=False,
        pwa=False,
    )


def _theme() -> gr.themes.Base:
    """Return Gradio's theme with fonts of the reader's system, and grey text that can be read."""
    theme = gr.themes.Default(font=FONTS, font_mono=["ui-monospace", "monospace"])
    return theme.set(body_text_color_subdued="*neutral_500", block_info_text_color="*neutral_500")


def _about(service: Service) -> str:
    """Return the heading: the model and what it knows."""
    model = service.model
    kind = "open vocabulary" if model.open_vocabulary else "fixed classes"
    names = ", ".join(model.class_names[:SHOWN_CLASSES])
    more = ", ..." if len(model.class_names) > SHOWN_CLASSES else ""
    about = f"{service.name}: {kind}, {len(model.class_names)} classes of its own ({names}{more})"
    return f"<h1>CatRank</h1><p>{html.escape(about)}</p>"


def _no_files(*_: Any) -> Any:
    """Refuse the files of a request to Gradio, which would be read or downloaded here."""
    raise UserError("the page takes no files but by its own upload")


def _component(name: str, **settings: Any) -> gr.HTML:
    """Return an HTML component with the script of this name."""
    return gr.HTML(
        value="",
        apply_default_css=False,
        html_template=f'<div class="cr-{name}"></div>',
        js_on_load=(FOLDER / f"{name}.js").read_text("utf-8"),
        **settings,
    )


def _segment(service: Service, files: PageFiles, key: Any, words: Any, kept: Any) -> Iterator[str]:
    """Segment an upload, and yield messages for ``view.js``: where it waits, then the result."""
    try:
        yield from _run(service, files, key, words, kept)
    except UserError as error:
        yield _message(state="error", message=str(error))


def _run(service: Service, files: PageFiles, key: Any, words: Any, kept: Any) -> Iterator[str]:
    if not key:
        raise UserError("there is no image yet: choose a file or an example")
    uploaded = files.uploads.get(key)
    keep = ClassesKept.parse(int(kept)) if has_dial(service.model) and kept else None
    classes = service.limits.class_names(words if isinstance(words, str) else None)
    question = Question(classes, keep=None if uploaded.is_video else keep)
    question.check(service.model)
    job: Any = service.engine.submit(_steps(service, files, uploaded, question))
    try:
        yield _message(state="waiting", ahead=service.engine.ahead(job))
        before = None
        while not wait([job.future], POLL_SECONDS).done:
            now = service.engine.ahead(job), job.progress
            if now != before and job.progress is not None:
                yield _message(state="progress", **job.progress._asdict())
            elif now != before:
                yield _message(state="waiting", ahead=now[0])
            before = now
        shown = job.future.result()
    except CancelledError:
        raise UserError("the server is shutting down") from None
    finally:
        job.future.cancel()
    yield _message(state="done", key=files.results.add(shown, shown.size))


def _steps(service: Service, files: PageFiles, uploaded: Uploaded, question: Question) -> Any:
    """Return the steps of a request, whose result is a :class:`Shown`."""
    upload, model, limits = uploaded.upload, service.model, service.limits

    def image() -> Shown:
        result = segment_upload(model, upload, question, limits)
        content = as_view(view_of(result))
        return Shown(upload.name, content, replace(result, top_labels=None, top_scores=None))

    def video() -> Any:
        path = files.new_path(".mp4")
        try:
            steps = segment_uploaded_video(model, upload, question, limits, path, service.alpha)
            made = yield from steps
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return Shown(upload.name, as_view(view_of_video(made, upload.name)), video=path)

    return video() if uploaded.is_video else once(image)


def _message(**content: Any) -> str:
    return json.dumps(content)
