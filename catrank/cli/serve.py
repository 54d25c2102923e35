"""``catrank serve``: a page for a browser, and a REST interface."""

import argparse
import re
from pathlib import Path

from catrank.cli.options import add_model_options, fraction, load_model, model_arguments
from catrank.cli.word import Word

TOP_CLASSES = 3  # of a pixel, under the pointer
MOST_WORDS = 65_535  # ids in a PNG of labels

SERVE = """\
Serve a model: a page for a browser, and the REST interface POST /v1/segment beside it.

The server listens on this machine alone unless --host says otherwise. It has no passwords: who
reaches it can use it. Nothing that the page shows comes from another server."""


def _arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--host", default="127.0.0.1", metavar="H", help="address to listen on (127.0.0.1)")
    add("--port", type=_port, default=7860, metavar="P", help="0: any free one (7860)")
    add("--max-pixels", type=_count, metavar="N", help="of an image or a frame (16000000)")
    add("--max-upload", type=_count, metavar="MB", help="megabytes of a file (64)")
    add("--max-words", type=_words, metavar="N", help="class names of a request (1000)")
    add("--max-frames", type=_count, metavar="N", help="of a video (500)")
    add("--queue", type=_count, metavar="N", help="requests that may wait (16)")
    add("--allow-origin", action="append", default=[], type=_origin, metavar="URL",
        help="a web site that may send requests, https://example.org; repeatable")  # fmt: skip
    add("--alpha", type=fraction, default=0.55, metavar="X", help="weight of colours (0.55)")
    add_model_options(parser)


def _run(args: argparse.Namespace) -> int:
    from segcore.errors import UserError

    try:
        import fastapi  # noqa: F401
        import gradio  # noqa: F401
        import python_multipart  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise UserError(f"{error.name} is not installed: pip install 'catrank[serve]'") from error

    from catrank.serving.app import is_loopback, make_app, serve
    from catrank.serving.engine import Engine
    from catrank.serving.limits import Limits
    from catrank.serving.rest import Service

    upload_bytes = args.max_upload and args.max_upload * 1_000_000
    given = {
        "pixels": args.max_pixels,
        "upload_bytes": upload_bytes,
        "words": args.max_words,
        "frames": args.max_frames,
        "queue": args.queue,
    }
    limits = Limits(**{key: value for key, value in given.items() if value is not None})
    name = str(model_arguments(args)["model"])
    args.opts = ["TEST.TOP_K", TOP_CLASSES, *args.opts]
    model = load_model(args)
    with Engine(limits.queue) as engine:
        service = Service(model, Path(name).name, engine, limits, args.alpha)
        app = make_app(service, loopback=is_loopback(args.host), origins=args.allow_origin)
        serve(app, args.host, args.port)
    return 0


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return value


def _words(text: str) -> int:
    value = _count(text)
    if value > MOST_WORDS:
        raise argparse.ArgumentTypeError(f"{text} is more than {MOST_WORDS}")
    return value


def _port(text: str) -> int:
    value = int(text)
    if not 0 <= value <= 65535:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 65535")
    return value


def _origin(text: str) -> str:
    if text != "*" and not re.fullmatch(r"https?://[^/\s]+", text):
        raise argparse.ArgumentTypeError(f"{text} is no origin such as https://example.org")
    return text


WORD = Word(
    title="a web page and a REST interface for a model",
    run=_run,
    add_arguments=_arguments,
    usage="[options] [--opts KEY VALUE ...]",
    description=SERVE,
    examples="""
catrank serve --model scenes-60
""",
    interrupted=": the server has stopped",
)
