"""Files of a Hugging Face repository, from a server on this machine that speaks as that host."""

import hashlib
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from segcore.checkpoint import hub
from segcore.errors import UserError

sys.path.insert(0, str(Path(__file__).parents[2]))
from file_server import serving

PROGRAM = """
import sys
from segcore.checkpoint.downloads import Source, fetch
from segcore.errors import exit_on_user_error
with exit_on_user_error():
    print(fetch(Source.of_address(sys.argv[1]), progress=False))
"""
PATH = "/spaces/owner/weights/resolve/main/m.pth"


@pytest.fixture(scope="module")
def content():
    file = io.BytesIO()
    torch.save({"weight": torch.rand(1800, 1800)}, file)
    return file.getvalue()


@pytest.fixture
def server(content):
    with serving() as facts:
        facts.files[PATH] = content
        facts.etags[PATH] = f'"{hashlib.sha256(content).hexdigest()}"'
        facts.headers[PATH] = {"X-Repo-Commit": "0" * 40}
        yield facts


def run(server, tmp_path, address="hf://spaces/owner/weights/m.pth"):
    env = os.environ | {
        "HF_ENDPOINT": server.address,
        "HF_HOME": str(tmp_path / "home"),
        "CATRANK_CACHE": str(tmp_path / "cache"),
        "no_proxy": "127.0.0.1",
    }
    command = [sys.executable, "-c", PROGRAM, address]
    return subprocess.run(command, env=env, capture_output=True, text=True)


def test_a_dropped_connection_goes_on_where_it_ended(server, content, tmp_path):
    server.drops[PATH] = [12_000_000]  # the library keeps blocks of 10 MiB
    done = run(server, tmp_path)
    path = Path(done.stdout.strip())
    assert path.read_bytes() == content, done.stderr
    assert path.name == "m.pth" and path.parents[2] == tmp_path / "cache"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [file.name for file in path.parent.iterdir()] == ["m.pth"]
    first, second = (asked for path, asked in server.requests if path == PATH)
    assert first == "" and int(second.removeprefix("bytes=").removesuffix("-")) > 0


def test_the_hash_that_the_host_has_noted_is_that_of_the_file(server, tmp_path):
    server.etags[PATH] = f'"{"0" * 64}"'
    done = run(server, tmp_path)
    assert done.returncode == 2 and done.stdout == ""
    assert "is not the expected file, and was removed: its SHA-256 is" in done.stderr


def test_a_file_that_is_not_there_is_one_message(server, tmp_path):
    done = run(server, tmp_path, "hf://spaces/owner/weights/other.pth")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "other.pth cannot be downloaded: " in done.stderr
    goal = tmp_path / "cache" / "downloads"
    assert f"fetch {server.address}/spaces/owner/weights/resolve/main/other.pth by" in done.stderr
    assert f"save it as {goal}" in done.stderr


def test_addresses_are_those_of_the_library():
    assert hub.web_address("hf://a/b/c/d.pth").endswith("/a/b/resolve/main/c/d.pth")
    assert hub.web_address("hf://a/b@v1.0/d.pth").endswith("/a/b/resolve/v1.0/d.pth")
    assert hub.web_address("hf://datasets/a/b/d.pth").endswith("/datasets/a/b/resolve/main/d.pth")
    for wrong in ("hf://a/d.pth", "hf://", "hf://a/b/", "hf://a b/c/d.pth", "http://a/b/c"):
        with pytest.raises(UserError, match="write hf://OWNER/REPOSITORY/FILE"):
            hub.web_address(wrong)
