"""TensorFlow.js models: shards become named tensors, and nothing in them is believed unchecked."""

import json
from pathlib import Path

import numpy as np
import pytest

from segcore.checkpoint.tensorflow_js import read_tensorflow_js
from segcore.errors import UserError

TENSORS = {
    "a/kernel": np.arange(24, dtype="<f4").reshape(2, 3, 4),
    "b/scalar": np.array(2.5, "<f4"),
    "c/sizes": np.array([[1, -2]], "<i4"),
    "d/empty": np.zeros((0, 3), "<f4"),
}
SHARDS = ("group1-shard1of2", "group1-shard2of2")


def manifest() -> dict:
    weights = [
        {"name": name, "shape": [*value.shape], "dtype": value.dtype.name}
        for name, value in TENSORS.items()
    ]
    return {"weightsManifest": [{"paths": [*SHARDS], "weights": weights}]}


def write(folder: Path, content: object, data: bytes | None = None) -> Path:
    """Write a model whose first shard ends within a number."""
    data = b"".join(v.tobytes() for v in TENSORS.values()) if data is None else data
    (folder / SHARDS[0]).write_bytes(data[:30])
    (folder / SHARDS[1]).write_bytes(data[30:])
    path = folder / "model.json"
    path.write_text(json.dumps(content))
    return path


def test_tensors(tmp_path) -> None:
    found = read_tensorflow_js(write(tmp_path, manifest()))
    assert [*found] == [*TENSORS]
    for name, value in TENSORS.items():
        np.testing.assert_array_equal(found[name], value, strict=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shape": [2, 3, 5]}, "lists 132 bytes of weights .* and its files hold 108: unpack"),
        ({"shape": [2, 3, 2]}, "lists 60 bytes"),
        ({"shape": [2, -3, 4]}, r"\[2, -3, 4\] is no shape, of a/kernel"),
        ({"shape": [1 << 29, 1 << 29]}, "at most 1024 MiB are read"),
        ({"shape": [1] * 40}, "is no shape"),
        ({"shape": "2"}, "2 is no shape"),
        ({"shape": [2.0, 3, 4]}, "is no shape"),
        ({"dtype": "uint8"}, "a/kernel is quantised or uint8; take the model in float32 or int32"),
        ({"dtype": ["float32"]}, "a/kernel is quantised or"),
        ({"quantization": {"scale": 1}}, "a/kernel is quantised"),
        ({"name": 3}, "a tensor of the weightsManifest has no name"),
        ({"name": "b/scalar"}, "lists the tensor b/scalar twice"),
    ],
)
def test_wrong_rows(tmp_path, change: dict, message: str) -> None:
    content = manifest()
    content["weightsManifest"][0]["weights"][0] |= change
    with pytest.raises(UserError, match=message):
        read_tensorflow_js(write(tmp_path, content))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "no TensorFlow.js model"),
        ({"weightsManifest": {}}, "no TensorFlow.js model"),
        ({"weightsManifest": [3]}, "lists no paths"),
        ({"weightsManifest": [{"paths": "x", "weights": []}]}, "lists no paths"),
        ({"weightsManifest": [{"paths": [], "weights": [3]}]}, "lists no weights"),
        ({"weightsManifest": [{"paths": ["../x"], "weights": []}]}, "leads out of"),
        ({"weightsManifest": [{"paths": ["absent"], "weights": []}]}, "there is no .*absent"),
    ],
)
def test_wrong_manifests(tmp_path, content: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_tensorflow_js(write(tmp_path, content))


def test_no_file(tmp_path) -> None:
    with pytest.raises(UserError, match=r"there is no .*model\.json: name the folder"):
        read_tensorflow_js(tmp_path / "model.json")


def test_shards_that_are_cut_short(tmp_path) -> None:
    with pytest.raises(UserError, match=r"lists 108 bytes .* its files hold 100"):
        read_tensorflow_js(write(tmp_path, manifest(), data=bytes(100)))
