"""The published DeepLabv3 becomes the file that ships: every tensor has its name and layout."""

import itertools
import json
import os
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors
import torch

from segcore.backbones.mobilenet import MobileNetV2
from segcore.checkpoint import read_checkpoint
from segcore.errors import UserError

SHIPPED = Path("demo/models/deeplabv3_mobilenet_voc.safetensors")
KERNEL, BIAS = "Conv2D/merged_input", "BatchNorm/FusedBatchNorm/Offset"
CHANNELS = [32, 16, 24, 24, *[32] * 3, *[64] * 4, *[96] * 3, *[160] * 3, 320]  # of every block
CONSTANTS = {"mul_1/x": 2 / 255, "Reshape": [127.5] * 3, "ToFloat/x": 1.0}


def graph() -> dict[str, np.ndarray]:
    """Random tensors with the names and shapes of the package."""
    generator = np.random.default_rng(0)
    shapes: dict[str, tuple[int, ...]] = {}

    def convolution(name: str, *shape: int) -> None:
        shapes[f"{name}/{KERNEL}"] = shape
        shapes[f"{name}/{BIAS}"] = shape[-1:]

    convolution("MobilenetV2/Conv", 3, 3, 3, 32)
    for block, (before, after) in enumerate(itertools.pairwise(CHANNELS)):
        name = "MobilenetV2/expanded_conv" + (f"_{block}" if block else "")
        hidden = before * (6 if block else 1)
        if block:
            convolution(f"{name}/expand", 1, 1, before, hidden)
        shapes[f"{name}/depthwise/depthwise_weights"] = (3, 3, hidden, 1)
        shapes[f"{name}/depthwise/BatchNorm/FusedBatchNorm/Scaled"] = (hidden,)
        shapes[f"{name}/depthwise/{BIAS}"] = (hidden,)
        convolution(f"{name}/project", 1, 1, hidden, after)
    convolution("image_pooling", 1, 1, 320, 256)
    convolution("aspp0", 1, 1, 320, 256)
    convolution("concat_projection", 1, 1, 512, 256)
    shapes |= {"logits/semantic/weights": (1, 1, 256, 21), "logits/semantic/biases": (21,)}
    tensors = {
        name: generator.standard_normal(shape).astype("<f4") for name, shape in shapes.items()
    }
    tensors |= {name: np.array(value, "<f4") for name, value in CONSTANTS.items()}
    return tensors | {"sub_1/x": np.array(513, "<i4"), "stack/0": np.array(0, "<i4")}


def write_package(folder: Path, tensors: dict[str, np.ndarray]) -> None:
    weights = [
        {"name": name, "shape": [*value.shape], "dtype": value.dtype.name}
        for name, value in tensors.items()
    ]
    content = {"weightsManifest": [{"paths": ["shard"], "weights": weights}]}
    (folder / "model.json").write_text(json.dumps(content))
    (folder / "shard").write_bytes(b"".join(value.tobytes() for value in tensors.values()))


@pytest.fixture
def convert(repository: Path) -> Callable[[Path, Path], None]:
    """The function of the command."""
    return runpy.run_path(str(repository / "tools" / "convert_deeplab.py"))["convert"]


def test_every_tensor(repository, tmp_path) -> None:
    tensors = graph()
    write_package(tmp_path, tensors)
    command = ["tools/convert_deeplab.py", tmp_path, tmp_path / "out.safetensors"]
    done = subprocess.run(
        [sys.executable, *command], cwd=repository, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "2,097,013 parameters, 4.21 MB" in done.stdout
    weights = read_checkpoint(tmp_path / "out.safetensors")["model"]
    backbone = MobileNetV2(8, norm=None).state_dict()
    assert {k: v.shape for k, v in weights.items() if k.startswith("backbone.")} == {
        f"backbone.{k}": v.shape for k, v in backbone.items()
    }
    assert {v.dtype for v in weights.values()} == {torch.float16}
    ours = "backbone.high_level_features.5.conv"
    graphs = "MobilenetV2/expanded_conv_4"
    expected = torch.from_numpy(tensors[f"{graphs}/expand/{KERNEL}"])[0, 0].T
    assert weights[f"{ours}.0.0.weight"][..., 0, 0].equal(expected.half())
    kernel = tensors[f"{graphs}/depthwise/depthwise_weights"][..., 0]
    scaled = kernel * tensors[f"{graphs}/depthwise/BatchNorm/FusedBatchNorm/Scaled"]
    assert weights[f"{ours}.1.0.weight"][:, 0].equal(
        torch.from_numpy(scaled).permute(2, 0, 1).half()
    )
    bias = torch.from_numpy(tensors[f"{graphs}/project/{BIAS}"]).half()
    assert weights[f"{ours}.2.bias"].equal(bias)


def test_the_same_file_each_time_with_licence_and_notice(tmp_path, convert) -> None:
    write_package(tmp_path, graph())
    file, again = tmp_path / "out.safetensors", tmp_path / "again.safetensors"
    convert(tmp_path, file), convert(tmp_path, again)
    assert file.read_bytes() == again.read_bytes()
    with safetensors.safe_open(file, "pt") as opened:
        metadata = opened.metadata()
    assert metadata["license"] == "Apache-2.0" and "Changed by" in metadata["notice"]
    assert metadata["config"] == "per_pixel/voc/deeplabv3_mobilenetv2.yaml"
    names = [row["name"] for row in json.loads(metadata["vocabulary"])["classes"]]
    assert len(names) == 21 and names[0] == "background" and names[11] == "dining table"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("aspp0/" + KERNEL, None, "holds no float32 aspp0/"),
        ("aspp0/" + KERNEL, np.zeros(3, "<f4"), "of 4 dimensions: it is another model than"),
        ("aspp1/" + KERNEL, np.zeros(3, "<f4"), "holds aspp1/.* besides: it is another model"),
        ("Reshape", np.array([123.675] * 3, "<f4"), r"Reshape is not 127\.5"),
        ("logits/semantic/biases", np.full(21, 1e6, "<f4"), "does not fit into half precision"),
        (
            "MobilenetV2/expanded_conv/depthwise/BatchNorm/FusedBatchNorm/Scaled",
            np.zeros(31, "<f4"),
            "has 32 kernels, 31 scales",
        ),
    ],
)
def test_other_models_are_one_message(tmp_path, convert, name, value, message: str) -> None:
    tensors = graph()
    if value is None:
        del tensors[name]
    else:
        tensors[name] = value
    write_package(tmp_path, tensors)
    with pytest.raises(UserError, match=message):
        convert(tmp_path, tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()


def test_other_targets_are_one_message(tmp_path, convert) -> None:
    with pytest.raises(UserError, match=r"out\.pth must end in \.safetensors"):
        convert(tmp_path, tmp_path / "out.pth")


def test_the_shipped_file_is_that_of_the_package(repository, tmp_path, convert) -> None:
    folder = os.environ.get("CATRANK_DEEPLAB_PACKAGE")
    if not folder:
        pytest.skip("set CATRANK_DEEPLAB_PACKAGE to package/model of the npm package")
    converted = tmp_path / "out.safetensors"
    convert(Path(folder), converted)
    assert converted.read_bytes() == (repository / SHIPPED).read_bytes()
