"""Weights by name, path and address."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

import catrank
from catrank.models import find, is_local, list_models, resolve, table, weights
from segcore.checkpoint import Checkpointer, locate
from segcore.errors import UserError

sys.path.insert(0, str(Path(__file__).parents[2]))
from file_server import serving


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CATRANK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return tmp_path / "cache"


@pytest.fixture
def hosted(cache, repository, monkeypatch):
    """A model "hosted-60" whose weights a server on this machine has: (server, entry)."""
    with serving() as server:
        path = repository / "demo/models/scenes_60.safetensors"
        server.files["/hosted.safetensors"] = path.read_bytes()
        address = f"{server.address}/hosted.safetensors"
        entry = replace(find("scenes-60"), name="hosted-60", weights=address)
        models = (*list_models(), entry)
        monkeypatch.setattr(table, "_models", lambda: models)
        yield server, entry


def test_a_shipped_model_is_a_file_at_once(repository) -> None:
    found = resolve("scenes-60")
    assert found.path == repository / "demo/models/scenes_60.safetensors"
    assert found.entry is find("scenes-60") and is_local(found.entry)


def test_a_file_is_taken_as_it_is_also_where_a_model_has_its_name(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("own.pth", "scenes-60"):
        (tmp_path / name).write_bytes(b"x")
        assert resolve(name).path.samefile(tmp_path / name) and resolve(name).entry is None
        assert locate(name) == name
    assert resolve(tmp_path / "own.pth").path == tmp_path / "own.pth"


@pytest.mark.parametrize("name", ["missing.pth", "folder/missing", "./scenes-60"])
def test_a_path_that_is_no_file_is_no_name(name, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="there is no checkpoint"):
        resolve(name)
    assert locate(name) == name


def test_a_published_model_is_downloaded_once(hosted, cache) -> None:
    server, entry = hosted
    assert not is_local(entry)
    found = resolve("hosted-60", progress=False)
    assert found.path == cache / "downloads" / "hosted-60" / "hosted.safetensors"
    assert found.entry is entry and is_local(entry)
    assert resolve("Hosted_60") == found == resolve(entry.weights)
    assert len(server.requests) == 1


def test_what_the_table_knows_of_a_file_is_verified(hosted, cache) -> None:
    server, _ = hosted
    content = server.files["/hosted.safetensors"]
    server.files["/hosted.safetensors"] = content[:-1] + b"?"
    with pytest.raises(UserError, match="is not the expected file, and was removed: its SHA-256"):
        resolve("hosted-60", progress=False)
    assert not list((cache / "downloads" / "hosted-60").iterdir())


def test_weights_of_a_config_may_be_a_name(hosted, cache) -> None:
    """A published model, a shipped one and an address; any checkpointer is given a file."""
    _, entry = hosted
    paths = set()
    for name in ("hosted-60", "scenes-60", entry.weights):
        cfg = catrank.load_config(entry.config, ["MODEL.WEIGHTS", name])
        paths.add(cfg.MODEL.WEIGHTS)
    (path,) = map(Path, paths)  # the same content: one copy in Detectron2's format
    assert path.parent == cache / "checkpoints" and path.suffix == ".pth"
    assert "model" in Checkpointer(_nothing())._load_file(str(path))


def test_a_name_that_is_none_is_one_message(cache) -> None:
    options = ["MODEL.WEIGHTS", "catseg-vit-b"]
    with pytest.raises(UserError, match="no model 'catseg-vit-b': near names are catseg-vitb"):
        catrank.load_config("catseg_d2/vitb_384.yaml", options)


def test_without_a_network_the_message_says_where_to_put_the_file(cache, monkeypatch) -> None:
    entry = replace(
        find("mask2former-r50-coco-panoptic"), weights="https://no-such-host.invalid/m_94dc52.pkl"
    )
    monkeypatch.setattr(weights, "find", lambda _: entry)
    goal = cache / "downloads" / entry.name / "m_94dc52.pkl"
    with pytest.raises(UserError, match=rf"fetch {entry.weights} by .* save it as {goal}$"):
        resolve(entry.name)


def _nothing():
    import torch

    return torch.nn.Identity()
