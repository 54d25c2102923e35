"""The table of the model zoo agrees with configs, vocabularies and files."""

import hashlib
import re
from urllib.parse import urlsplit

import pytest

import catrank
from catrank import FAMILIES
from catrank.models import find, list_models, releases
from catrank.models import table as table_module
from catrank.models.table import shipped_file
from catrank.models.weights import SUFFIXES
from segcore.config import find_config
from segcore.config.files import read_chain
from segcore.errors import UserError
from segcore.vocabulary import vocabulary_table

MODELS = {model.name: model for model in list_models()}
SHIPPED = [model for model in MODELS.values() if model.kind == "shipped"]


def test_names_are_unique_and_easy_to_type() -> None:
    assert len(MODELS) == len(list_models()) > 50
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name) for name in MODELS)
    assert catrank.list_models() == list_models()


def test_no_file_or_config_is_listed_twice() -> None:
    for column in ("weights", "config"):
        values = [getattr(model, column) for model in MODELS.values()]
        assert len(values) == len(set(values))


def test_find_is_lenient_about_case_and_underscores() -> None:
    assert find("catseg-vitb") is find("CATSeg_ViTB") is MODELS["catseg-vitb"]
    assert find("scenes_60") is MODELS["scenes-60"]


@pytest.mark.parametrize(
    ("name", "near"),
    [("catseg-vit", "catseg-vitb"), ("catseg_b", "catseg-vitb"), ("scene-60", "scenes-60")],
)
def test_an_unknown_name_suggests_near_ones(name, near) -> None:
    with pytest.raises(UserError, match=rf"no model '{name}': near names are .*{near}.*; `catrank"):
        find(name)


def test_a_name_like_no_other_points_to_the_list() -> None:
    with pytest.raises(UserError, match=r"^no model '@@': `catrank models list` lists all$"):
        find("@@")
    with pytest.raises(UserError, match=r"\\x1b"):
        find("\x1b[2J")


def test_vocabularies_have_as_many_names_as_the_models_have_classes() -> None:
    for model in MODELS.values():
        assert model.family in FAMILIES
        heads = [
            tree["MODEL"]["SEM_SEG_HEAD"]
            for _, tree in read_chain(find_config(model.config))
            if "SEM_SEG_HEAD" in tree.get("MODEL", ())
        ]
        head = {key: value for node in heads for key, value in node.items()}
        if model.task == "open vocabulary":
            # GroupViT learns from captions, which have no list of classes.
            assert head.get("TRAIN_CLASS_JSON", head["TEST_CLASS_JSON"]) == model.vocabulary
        elif model.vocabulary:
            assert len(vocabulary_table(model.vocabulary)["classes"]) == head["NUM_CLASSES"]


def test_addresses_are_those_of_the_releases() -> None:
    for model in MODELS.values():
        assert model.release in releases() and model.licence
        assert model.file_name.endswith(SUFFIXES)
        if model.kind == "published":
            assert urlsplit(model.weights).scheme in ("https", "hf")
            assert model.release.repository.startswith("https://")


def test_md5_is_what_the_file_names_of_mask2former_begin_with() -> None:
    for model in MODELS.values():
        named = re.fullmatch(r"model_final_([0-9a-f]{6})\.pkl", model.file_name)
        assert model.md5 == (named and named[1])


@pytest.mark.parametrize("model", SHIPPED, ids=lambda model: model.name)
def test_shipped_files_are_those_of_the_table(model, repository) -> None:
    path = shipped_file(model)
    assert path == repository / "demo" / "models" / model.weights
    assert model.size == path.stat().st_size
    assert model.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_every_shipped_file_is_in_the_table_and_in_the_wheel(repository) -> None:
    names = {model.weights for model in SHIPPED}
    assert names == {path.name for path in (repository / "demo/models").glob("*.safetensors")}
    project = (repository / "pyproject.toml").read_text()
    for name in names:
        assert f'"demo/models/{name}" = "catrank/models/weights/{name}"' in project


def test_an_installation_without_the_files_is_one_message(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(table_module, "SHIPPED_FOLDERS", (tmp_path,))
    with pytest.raises(UserError, match=r"weights of scenes-60 are missing: .*; install CatRank"):
        shipped_file(find("scenes-60"))
