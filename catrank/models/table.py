"""The model zoo's table: every published checkpoint and the small models that come with CatRank.

``table.json`` is the one source: MODEL_ZOO.md, ``catrank models list`` and downloads read it.
"""

import difflib
import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from segcore.errors import UserError, printable

PACKAGE = Path(__file__).resolve().parent
# Where shipped weights are: inside an installed wheel, or in a checkout that it was built from.
SHIPPED_FOLDERS = (PACKAGE / "weights", PACKAGE.parents[1] / "demo" / "models")


@dataclass(frozen=True)
class Release:
    """Where checkpoints come from.

    Attributes:
        title: the heading of MODEL_ZOO.md that lists them.
        repository: address of their authors' code; None for models of this project.
        get: where a person finds the files.
        licence: of the weights.
    """

    title: str
    repository: str | None
    get: str
    licence: str


@dataclass(frozen=True)
class ModelEntry:
    """One checkpoint of the model zoo.

    Attributes:
        name: what users type, such as "catseg-vitb".
        title: method, backbone and training data, for people.
        task: "open vocabulary", "semantic", "panoptic", "instance", "video semantic" or
            "video instance".
        config: name of its config, as :func:`segcore.config.find_config` takes it.
        vocabulary: registered vocabulary with its class names in order, of an open-vocabulary model
            those of its training; None where only its data set names them.
        release: where it comes from.
        weights: address of the file; for a shipped model the file's name.
        size: bytes of the file; None: not known.
        sha256: hash (hex) of the file; None: not known.
        md5: how the MD5 (hex) of the file begins; None: not known.
        verified: what was compared with the authors' model: "keys", "outputs" or nothing.
    """

    name: str
    title: str
    task: str
    config: str
    vocabulary: str | None
    release: Release
    weights: str
    size: int | None = None
    sha256: str | None = None
    md5: str | None = None
    verified: tuple[str, ...] = ()

    @property
    def family(self) -> str:
        """The package that holds the model's code, which is its configs' first folder."""
        return self.config.partition("/")[0]

    @property
    def licence(self) -> str:
        """The licence of the weights."""
        return self.release.licence

    @property
    def kind(self) -> Literal["published", "shipped"]:
        """Whether the file comes with CatRank ("shipped") or its authors host it ("published")."""
        return "published" if "://" in self.weights else "shipped"

    @property
    def file_name(self) -> str:
        """The name of the file, which its authors gave it."""
        return self.weights.rpartition("/")[2]


def list_models() -> list[ModelEntry]:
    """Return all models, in the order of the table: published ones first."""
    return list(_models())


def find(name: str) -> ModelEntry:
    """Return the model of a name; case does not matter, and underscores count as hyphens.

    Raises:
        UserError: there is no such model; the message lists the models of similar names.
    """
    models = {model.name: model for model in _models()}
    key = name.lower().replace("_", "-")
    if key in models:
        return models[key]
    near = difflib.get_close_matches(key[:100], models, n=3, cutoff=0.4)
    raise UserError(
        f"no model {printable(name)!r}: "
        + (f"near names are {', '.join(near)}; " if near else "")
        + "`catrank models list` lists all"
    )


def releases() -> list[Release]:
    """Return where the checkpoints come from, in the order of the table."""
    return list(_releases().values())


def shipped_file(model: ModelEntry) -> Path:
    """Return the path of a shipped model's weights.

    Raises:
        UserError: the file is in neither folder, since the installation is not whole.
    """
    for folder in SHIPPED_FOLDERS:
        if (folder / model.weights).is_file():
            return folder / model.weights
    raise UserError(
        f"the weights of {model.name} are missing: {SHIPPED_FOLDERS[0] / model.weights}; install "
        "CatRank again"
    )


@cache
def _table() -> dict[str, Any]:
    return json.loads(files(__package__).joinpath("table.json").read_text("utf-8"))


@cache
def _releases() -> dict[str, Release]:
    return {row["title"]: Release(**row) for row in _table()["releases"]}


@cache
def _models() -> tuple[ModelEntry, ...]:
    return tuple(
        ModelEntry(
            **row | {"release": _releases()[row["release"]], "verified": tuple(row["verified"])}
        )
        for row in _table()["models"]
    )
