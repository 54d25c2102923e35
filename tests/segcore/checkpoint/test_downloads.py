"""Checkpoints by address: downloaded once, verified, and never exchanged silently."""

import hashlib
import io
import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import safetensors.torch
import torch

from segcore.checkpoint import Checkpointer, Source, cache_summary, clean, fetch, locate
from segcore.checkpoint import downloads as module
from segcore.checkpoint.downloads import direct, local_copy
from segcore.checkpoint.http import DownloadError
from segcore.errors import UserError

sys.path.insert(0, str(Path(__file__).parents[2]))
from file_server import serving


def saved(seed: int = 0) -> bytes:
    """A checkpoint as ``torch.save`` writes it."""
    file = io.BytesIO()
    generator = torch.Generator().manual_seed(seed)
    torch.save({"weight": torch.rand(300, 300, generator=generator)}, file)
    return file.getvalue()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CATRANK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return tmp_path / "cache"


@pytest.fixture
def server(cache):
    with serving() as facts:
        facts.files["/zoo/m.pth"] = saved()
        yield facts


def source_of(server, path="/zoo/m.pth", **known):
    return Source(server.address + path, "model", path.rpartition("/")[2], **known)


def test_a_file_is_downloaded_once_and_found_afterwards(server, cache):
    source = source_of(server)
    assert local_copy(source) is None
    path = fetch(source)
    assert path == cache / "downloads" / "model" / "m.pth" == local_copy(source)
    assert path.read_bytes() == saved()
    assert fetch(source) == path and len(server.requests) == 1
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert [file.name for file in path.parent.iterdir()] == ["m.pth"]


def test_known_size_and_hashes_are_those_of_the_file(server):
    content = saved()
    sha256, md5 = hashlib.sha256(content).hexdigest(), hashlib.md5(content).hexdigest()
    assert fetch(source_of(server, size=len(content), sha256=sha256, md5=md5[:6])).is_file()


@pytest.mark.parametrize(
    ("known", "message"),
    [
        ({"size": 10**6}, "it has .* bytes, not 1000000"),
        ({"size": 10**4}, "it has .* bytes, more than the 10000 expected"),
        ({"sha256": "0" * 64}, "its SHA-256 is [0-9a-f]{64}, not 0{64}"),
        ({"md5": "000000"}, "its MD5 is [0-9a-f]{32}, not 000000"),
    ],
)
def test_a_file_that_is_not_the_known_one_is_refused_and_removed(server, cache, known, message):
    with pytest.raises(UserError, match=message):
        fetch(source_of(server, **known))
    assert not list((cache / "downloads/model").iterdir())


@pytest.mark.parametrize(
    ("path", "content", "message"),
    [
        ("/m.pth", b"<!DOCTYPE html><p>Log in", "is not the expected file.*: it is a web page"),
        ("/m.pth", b'{"error": "not found"}', "it is no checkpoint of PyTorch"),
        ("/m.pth", saved()[:-1000], "it is cut short"),
        ("/m.pkl", b"\x80\x04K\x01", "it is no whole pickle"),
        (
            "/m.safetensors",
            safetensors.torch.save({"w": torch.ones(99)})[:-9],
            "is no whole .safet",
        ),
        ("/m.pth", b"", "it is empty"),
    ],
)
def test_a_wrong_or_short_file_is_refused_and_removed(server, cache, path, content, message):
    server.files[path] = content
    server.lengths = False  # nothing but the file itself says that it is not whole
    with pytest.raises(UserError, match=message):
        fetch(source_of(server, path))
    assert not list((cache / "downloads/model").iterdir())
    server.files[path] = {".pth": saved(), ".pkl": b"\x80\x04K\x01."}.get(
        Path(path).suffix, safetensors.torch.save({"w": torch.ones(99)})
    )
    assert fetch(source_of(server, path)).read_bytes() == server.files[path]


def test_a_file_that_changed_on_disk_is_refused_until_it_is_removed(server):
    source = source_of(server)
    path = fetch(source)
    path.write_bytes(saved(seed=1))
    with pytest.raises(UserError, match=r"m\.pth is not what is at .*; remove the file to"):
        fetch(source)
    path.unlink()
    assert fetch(source).read_bytes() == saved()


def test_a_file_that_was_only_touched_is_still_the_same(server):
    source = source_of(server)
    os.utime(fetch(source), (1e9, 1e9))
    assert fetch(source) and fetch(source) and len(server.requests) == 1


def test_a_file_that_its_server_exchanged_is_refused_until_it_is_trusted(server, cache):
    source = source_of(server)
    fetch(source)
    clean()
    server.files["/zoo/m.pth"] = saved(seed=1)
    with pytest.raises(UserError, match=r"not \w{64} as at the first download") as error:
        fetch(source)
    assert local_copy(source) is None
    record = cache / "records" / "model.json"
    assert f"(to accept the new file, remove {record})" in str(error.value)
    record.unlink()
    assert fetch(source).read_bytes() == saved(seed=1)


@pytest.mark.parametrize("name", ["m.pth", "m (1).pth"])
def test_without_a_network_the_message_says_where_to_put_the_file(cache, name):
    source = Source("http://no-such-host.invalid/m.pth", "model", "m.pth")
    goal = cache / "downloads" / "model" / "m.pth"
    with pytest.raises(UserError) as error:
        fetch(source)
    assert f"fetch {source.address} by other means and save it as {goal}" in str(error.value)
    assert "\n" not in str(error.value)
    goal.with_name(name).write_bytes(saved())
    assert fetch(source) == goal.with_name(name)
    goal.with_name(name).write_bytes(saved(seed=1))
    with pytest.raises(UserError, match="is not what is at"):
        fetch(source)


def test_a_file_put_there_by_hand_is_verified_too_but_not_removed(cache):
    source = Source("http://no-such-host.invalid/m.pth", "model", "m.pth", sha256="0" * 64)
    path = cache / "downloads" / "model" / "m.pth"
    path.parent.mkdir(parents=True)
    for content in (saved(), b"<html>"):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"m\.pth is not what is at"):
            fetch(source)
        assert path.read_bytes() == content


def test_two_processes_download_once(server, cache):
    program = (
        "import sys; from segcore.checkpoint.downloads import Source, fetch\n"
        "print(fetch(Source(sys.argv[1], 'model', 'm.pth')))"
    )
    command = [sys.executable, "-c", program, server.address + "/zoo/m.pth"]
    runs = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    paths = {run.communicate()[0].strip() for run in runs}
    assert paths == {str(cache / "downloads/model/m.pth")}
    assert len(server.requests) == 1


def test_a_download_that_was_interrupted_goes_on(server, monkeypatch):
    def interrupt(_):
        raise KeyboardInterrupt

    server.drops["/zoo/m.pth"] = [100_000]
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(module, "download", partial(module.download, pause=interrupt))
        fetch(source_of(server))
    assert local_copy(source_of(server)) is None
    assert fetch(source_of(server)).read_bytes() == saved()
    assert server.requests == [("/zoo/m.pth", ""), ("/zoo/m.pth", "bytes=100000-")]


# ---- addresses that people type ---------------------------------------------------------------


def test_weights_of_a_config_may_be_an_address(server, cache):
    server.files["/m.pth"] = saved()
    address = server.address + "/m.pth?download=true"
    path = Path(locate(address))
    assert path.read_bytes() == saved() and path.name == "m.pth"
    assert locate(address) == str(path)
    assert locate(address + "?matching_heuristics=True") == f"{path}?matching_heuristics=True"
    # The query belongs to the address.
    assert Path(locate(server.address + "/m.pth?version=2")) != path
    for other in ("", "missing.pth", "detectron2://x/R-50.pkl", str(path), "s3://b/m.pth"):
        assert locate(other) == other


def test_the_checkpointer_loads_from_an_address(server, tmp_path):
    net = torch.nn.Linear(300, 300, bias=False)
    Checkpointer(net).load(server.address + "/zoo/m.pth")
    expected = torch.load(io.BytesIO(saved()), weights_only=True)["weight"]
    assert torch.equal(net.weight, expected)
    server.files["/zoo/bad.pth"] = b"not found"
    with pytest.raises(UserError, match=r"zoo/bad\.pth is not the expected file"):
        Checkpointer(net).load_for_use(server.address + "/zoo/bad.pth")


def test_the_server_may_name_the_file(server, cache):
    server.files["/get"] = safetensors.torch.save({"w": torch.ones(9)})
    address = f"{server.address}/get?id=7"
    with pytest.raises(UserError, match=r"no name says what kind of checkpoint .* save it in /"):
        locate(address)
    disposition = 'attachment; filename="own model.safetensors"'
    server.headers["/get"] = {"Content-Disposition": disposition}
    assert Path(locate(address)).name == "own model.safetensors"
    server.headers["/get"] = {"Content-Disposition": 'attachment; filename="../../evil.pth"'}
    with pytest.raises(UserError, match=r"the name that the server gives: .* leads out of"):
        locate(f"{server.address}/get?id=8")


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("http://[/m.pth", "is no address"),
        ("https:///m.pth", "cannot be downloaded: "),
        ("http://host/%2e%2e%2fm.pth", "leads out of|without slashes"),
        ("http://host/a%00.pth", "control characters"),
        ("hf://a/m.safetensors", "write hf://OWNER/REPOSITORY/FILE"),
        ("hf://a b/c/m.pth", "write hf://OWNER/REPOSITORY/FILE"),
    ],
)
def test_what_is_no_address_is_one_message(cache, address, message):
    with pytest.raises(UserError, match=message) as error:
        locate(address)
    assert str(error.value).isprintable()


def test_google_drive_is_asked_for_the_file_not_for_its_page(cache, monkeypatch):
    for address in (
        "https://drive.google.com/file/d/1a-B_c/view?usp=sharing",
        "https://drive.google.com/uc?export=download&id=1a-B_c",
        "https://drive.google.com/open?id=1a-B_c",
    ):
        assert direct(address).endswith("/download?id=1a-B_c&export=download&confirm=t")
    assert direct("https://host/file/d/1a-B_c/view") == "https://host/file/d/1a-B_c/view"

    def page(*_, **__):
        raise DownloadError("the server sends a web page (text/html) in place of the file")

    monkeypatch.setattr(module, "download", page)
    with pytest.raises(UserError, match=r"sends a web page.*; fetch https://drive\..*/1a-B_c/view"):
        locate("https://drive.google.com/file/d/1a-B_c/view")


# ---- the cache as a whole ---------------------------------------------------------------------


def test_the_cache_is_summed_up_and_cleaned(server, cache):
    assert [(usage.files, usage.bytes) for usage in cache_summary()] == 3 * [(0, 0)]
    assert not cache.exists()
    path = fetch(source_of(server))
    (cache / "checkpoints").mkdir()
    (cache / "checkpoints" / "copy.pth").write_bytes(b"123")
    usage = {usage.kind: usage for usage in cache_summary()}
    assert (usage["downloads"].files, usage["downloads"].bytes) == (1, path.stat().st_size)
    assert (usage["checkpoints"].files, usage["checkpoints"].bytes) == (1, 3)
    assert clean(["checkpoints"]) == [usage["checkpoints"]] and path.is_file()
    assert {removed.files for removed in clean()} == {0, 1} and not path.exists()
    with pytest.raises(UserError, match=r"the cache has no 'x.*x1b': it has checkpoints and d"):
        clean(["x\x1b"])


def test_cleaning_follows_no_link(cache, tmp_path):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "m.pth").touch()
    cache.mkdir()
    (cache / "downloads").symlink_to(tmp_path / "precious")
    with pytest.raises(UserError, match="belongs to another user"):
        clean()
    assert (tmp_path / "precious" / "m.pth").exists()


@pytest.mark.parametrize("content", ["", "[]", '{"sha256": 7}', "{"])
def test_a_damaged_record_is_made_anew(server, cache, content):
    source = source_of(server)
    fetch(source)
    (cache / "records" / "model.json").write_text(content)
    assert fetch(source).is_file()
    record = json.loads((cache / "records" / "model.json").read_text())
    assert record["sha256"] == hashlib.sha256(saved()).hexdigest()
    assert record["address"] == source.address
