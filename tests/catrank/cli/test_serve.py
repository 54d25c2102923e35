"""``catrank serve``: options, and Ctrl-C."""

import dataclasses
import os
import re
import signal
import subprocess
import sys
import urllib.request

import pytest

from catrank.cli import ROOT, main
from catrank.cli.parsing import Parser


def test_help_names_the_defaults() -> None:
    pytest.importorskip("PIL")
    from catrank.serving.limits import Limits

    text = re.sub(r"\s+", " ", Parser(ROOT.words["serve"], "catrank serve").format_help())
    limits = Limits()
    for number in (limits.pixels, limits.upload_bytes // 1_000_000, limits.words, limits.frames):
        assert f"({number})" in text
    assert f"wait ({limits.queue})" in text and len(dataclasses.fields(limits)) == 7


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (["--port", "70000"], "70000 is not between 0 and 65535"),
        (["--max-words", "0"], "0 is not 1 or more"),
        (["--max-words", "70000"], "70000 is more than 65535"),
        (["--allow-origin", "example.org"], "example.org is no origin such as https://"),
        (["--share"], "does not take '--share'"),
    ],
)
def test_wrong_options(line: list[str], message: str, capsys) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["serve", *line])
    assert stop.value.code == 2 and message in capsys.readouterr().err


@pytest.mark.slow  # a process that imports all and loads a model
def test_it_serves_until_ctrl_c() -> None:
    for package in ("fastapi", "gradio", "uvicorn", "python_multipart"):
        pytest.importorskip(package, reason=f"{package} is not installed: extra serve")
    command = [sys.executable, "-m", "catrank", "serve", "--model", "scenes-60", "--port", "0"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        [*command, "--device", "cpu"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    ) as server:
        try:
            assert server.stdout is not None and server.stdout.readline().startswith("model: ")
            line = server.stdout.readline()
            address = re.search(r"http://127\.0\.0\.1:\d+", line)
            assert address, line
            with urllib.request.urlopen(f"{address[0]}/v1/health", timeout=60) as reply:
                assert reply.read() == b'{"status":"ok"}'
            server.send_signal(signal.SIGINT)
            output, errors = server.communicate(timeout=60)
        finally:
            server.kill()
    assert (server.returncode, output, errors) == (
        130,
        "",
        "interrupted: the server has stopped\n",
    )
