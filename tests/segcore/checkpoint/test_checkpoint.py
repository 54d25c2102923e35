"""Reading checkpoints safely, and loading them strictly."""

import errno
import os
import pickle
import random
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from segcore.checkpoint import (
    Checkpointer,
    convert_for_detectron2,
    open_torchscript_clip,
    read_checkpoint,
)
from segcore.errors import UserError
from segcore.runtime.files import writing


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("CATRANK_CACHE", str(folder))
    return folder


def weights() -> dict[str, torch.Tensor]:
    return {
        "0.weight": torch.arange(6.0).reshape(2, 3),
        "0.bias": torch.tensor([1.0, 2.0]),
        "1.weight": torch.tensor([3.0, 4.0]),
        "1.bias": torch.tensor([5.0, 6.0]),
    }


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2))


class Malice:
    """Leaves a trace in the working directory if it is ever unpickled."""

    def __reduce__(self):
        return os.mkdir, ("executed",)


def same(model: dict[str, torch.Tensor]) -> bool:
    expected = weights()
    return model.keys() == expected.keys() and all(model[k].equal(expected[k]) for k in expected)


def save_zoo(path: Path, protocol: int, content: dict) -> Path:
    with path.open("wb") as file:
        pickle.dump(content, file, protocol=protocol)
    return path


def test_reads_every_format(tmp_path):
    torch.save({"model": weights(), "iteration": 7}, tmp_path / "a.pth")
    torch.save(weights(), tmp_path / "bare.pt")
    torch.save({"state_dict": weights()}, tmp_path / "b.pth")
    torch.save(weights(), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    safetensors.torch.save_file(weights(), tmp_path / "c.safetensors")
    for name in ("a.pth", "bare.pt", "b.pth", "old.pth", "c.safetensors"):
        assert same(read_checkpoint(tmp_path / name)["model"]), name
    assert read_checkpoint(tmp_path / "a.pth")["iteration"] == 7


def test_reads_numpy_numbers_in_a_torch_file(tmp_path):
    content = {"model": weights(), "score": np.float64(0.5), "ids": np.arange(3)}
    torch.save(content, tmp_path / "a.pth")
    checkpoint = read_checkpoint(tmp_path / "a.pth")
    assert checkpoint["score"] == 0.5 and checkpoint["ids"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("arrays", [True, False])
def test_reads_model_zoo_pickles(tmp_path, protocol, arrays):
    model = {k: v.numpy() for k, v in weights().items()} if arrays else weights()
    content = {"model": model, "__author__": "zoo", "matching_heuristics": True}
    path = save_zoo(tmp_path / "zoo.pkl", protocol, content)
    checkpoint = read_checkpoint(path)
    assert same(checkpoint["model"]) and checkpoint["matching_heuristics"] is True

    converted = convert_for_detectron2(str(path))
    assert converted.endswith(".pth")
    kept = torch.load(converted, weights_only=True)
    assert same(kept["model"]) and kept["matching_heuristics"] is True


def test_conversion_follows_the_file(tmp_path, cache):
    safetensors.torch.save_file(weights(), tmp_path / "m.safetensors")
    first = convert_for_detectron2(str(tmp_path / "m.safetensors"))
    assert convert_for_detectron2(str(tmp_path / "m.safetensors")) == first
    safetensors.torch.save_file({"w": torch.ones(2)}, tmp_path / "m.safetensors")
    second = convert_for_detectron2(str(tmp_path / "m.safetensors"))
    assert second != first and list(read_checkpoint(second)["model"]) == ["w"]
    assert convert_for_detectron2("model.pth") == "model.pth"
    assert convert_for_detectron2("detectron2://x/y.pkl") == "detectron2://x/y.pkl"


def test_an_error_names_the_file_and_not_its_copy(tmp_path):
    path = str(tmp_path / "m.safetensors")
    safetensors.torch.save_file({"other": torch.ones(2)}, path)
    with pytest.raises(UserError, match=f"^{re.escape(path)} does not fit the model"):
        Checkpointer(torch.nn.Linear(2, 2)).load(convert_for_detectron2(path))


def test_conversion_follows_the_contents_not_the_time(tmp_path):
    """A file of the same size and time is another file: archives unpack it like that."""
    path = tmp_path / "m.safetensors"
    for value in (1.0, 2.0, 1.0):
        safetensors.torch.save_file({"w": torch.full((4,), value)}, path)
        os.utime(path, (1e9, 1e9))
        copy = convert_for_detectron2(str(path))
        assert torch.load(copy, weights_only=True)["model"]["w"].tolist() == [value] * 4


def test_a_copy_in_the_cache_that_was_changed_is_made_anew(tmp_path):
    path = tmp_path / "m.safetensors"
    safetensors.torch.save_file(weights(), path)
    copy = Path(convert_for_detectron2(str(path)))
    whole = copy.read_bytes()
    torch.save({"model": {"w": torch.ones(2)}}, copy)
    assert Path(convert_for_detectron2(str(path))).read_bytes() == whole
    copy.write_bytes(whole[:100])
    assert Path(convert_for_detectron2(str(path))).read_bytes() == whole


def test_threads_on_a_cold_cache_all_get_the_weights(tmp_path, cache):
    paths = [tmp_path / f"{number}.pkl" for number in range(5)]
    for number, path in enumerate(paths):
        content = {"model": {"w": np.full(1000, number, np.float32)}, "__author__": "zoo"}
        save_zoo(path, 4, content)
    with ThreadPoolExecutor(8) as pool:
        copies = list(pool.map(convert_for_detectron2, [str(path) for path in paths] * 8))
    for number, copy in enumerate(copies):
        assert read_checkpoint(copy)["model"]["w"].eq(number % 5).all()
    assert not list(cache.rglob("*.unfinished"))


def test_the_cache_is_the_users_alone(tmp_path, cache, monkeypatch):
    safetensors.torch.save_file(weights(), tmp_path / "m.safetensors")
    folder = cache / "checkpoints"
    folder.mkdir(parents=True, mode=0o777)
    copy = Path(convert_for_detectron2(str(tmp_path / "m.safetensors")))
    assert copy.parent == folder and folder.stat().st_mode & 0o777 == 0o700
    assert copy.stat().st_mode & 0o777 == 0o600
    with (
        monkeypatch.context() as patch,
        pytest.raises(UserError, match="belongs to another user: set"),
    ):
        patch.setattr(os, "getuid", lambda: 12345)
        convert_for_detectron2(str(tmp_path / "m.safetensors"))
    folder.rename(cache / "elsewhere")
    folder.symlink_to(cache / "elsewhere")
    with pytest.raises(UserError, match="belongs to another user: set CATRANK_CACHE"):
        convert_for_detectron2(str(tmp_path / "m.safetensors"))


def test_a_cache_that_cannot_be_used_is_one_error_message(tmp_path, monkeypatch):
    safetensors.torch.save_file(weights(), tmp_path / "m.safetensors")
    (tmp_path / "file").touch()
    monkeypatch.setenv("CATRANK_CACHE", str(tmp_path / "file"))
    with pytest.raises(UserError, match=r"cannot be used: .*; set CATRANK_CACHE"):
        convert_for_detectron2(str(tmp_path / "m.safetensors"))


@pytest.mark.parametrize("name", ["bad.pkl", "bad.pth", "old.pth"])
def test_malicious_pickle_is_refused_and_not_executed(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    content = {"model": weights(), "extra": Malice()}
    if name == "bad.pkl":
        save_zoo(Path(name), 4, content)
    else:
        torch.save(content, name, _use_new_zipfile_serialization=name == "bad.pth")
    with pytest.raises(UserError, match=rf"{name} cannot be read: it wants to run \w+\.mkdir"):
        read_checkpoint(name)
    assert not Path("executed").exists()


def test_a_tensor_inside_a_pickle_cannot_smuggle_code(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    import io

    inner = io.BytesIO()
    torch.save(Malice(), inner, _use_new_zipfile_serialization=False)

    class Outer:
        def __reduce__(self):
            return torch.storage._load_from_bytes, (inner.getvalue(),)

    save_zoo(Path("outer.pkl"), 4, {"model": {"w": Outer()}})
    with pytest.raises(UserError, match="cannot be read"):
        read_checkpoint("outer.pkl")
    assert not Path("executed").exists()


def test_a_pickle_that_claims_gigabytes_allocates_none(tmp_path):
    def claim(shape):
        class Claim:
            def __reduce__(self):
                return np.empty(0).__reduce__()[0], (np.ndarray, shape, b"b")

        return Claim()

    save_zoo(tmp_path / "huge.pkl", 4, {"model": {"w": claim((1 << 40,))}})
    with pytest.raises(UserError, match=r"huge\.pkl cannot be read"):
        read_checkpoint(tmp_path / "huge.pkl")
    # A memo index of four billion, and bytes of a terabyte: neither is in the file.
    (tmp_path / "memo.pkl").write_bytes(b"\x80\x04}r\xff\xff\xff\xff.")
    (tmp_path / "long.pkl").write_bytes(b"\x80\x04\x8e" + (1 << 40).to_bytes(8, "little") + b".")
    for name in ("memo.pkl", "long.pkl"):
        with pytest.raises(UserError, match=name):
            read_checkpoint(tmp_path / name)


@pytest.mark.parametrize("name", ["m.pth", "m.safetensors", "m.pkl"])
def test_truncated(tmp_path, name):
    if name == "m.pth":
        torch.save(weights(), tmp_path / name)
    elif name == "m.pkl":
        save_zoo(tmp_path / name, 4, {"model": {k: v.numpy() for k, v in weights().items()}})
    else:
        safetensors.torch.save_file(weights(), tmp_path / name)
    content = (tmp_path / name).read_bytes()
    for length in (0, 1, 10, len(content) // 2, len(content) - 1):
        (tmp_path / name).write_bytes(content[:length])
        with pytest.raises(UserError, match=rf"{name} (cannot be read: it is|has 0 bytes)"):
            read_checkpoint(tmp_path / name)


def test_not_a_checkpoint(tmp_path):
    (tmp_path / "a.pth").write_text("hello, I am text\n" * 10)
    torch.save([1, 2], tmp_path / "list.pth")
    torch.save({"model": {"w": "text"}}, tmp_path / "text.pth")
    torch.save({"model": {}}, tmp_path / "empty.pth")
    for name in ("a.pth", "list.pth", "text.pth", "empty.pth"):
        with pytest.raises(UserError, match=rf"{name} .*no checkpoint"):
            read_checkpoint(tmp_path / name)
    with pytest.raises(UserError, match="there is no checkpoint"):
        read_checkpoint(tmp_path / "nothing.pth")
    with pytest.raises(UserError, match="is a folder"):
        read_checkpoint(tmp_path)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_torchscript_only_on_request(tmp_path):
    module = torch.jit.script(nn.Linear(3, 2).half())
    module.save(str(tmp_path / "clip.pt"))
    with pytest.raises(UserError, match=r"`python tools/convert_clip\.py .*clip\.pt OUT\."):
        read_checkpoint(tmp_path / "clip.pt")
    tensors = open_torchscript_clip(tmp_path / "clip.pt")
    assert tensors["weight"].dtype == torch.float32
    assert tensors["weight"].equal(module.state_dict()["weight"].float())
    with pytest.raises(UserError, match="is not a TorchScript archive"):
        (tmp_path / "no.pt").write_text("no")
        open_torchscript_clip(tmp_path / "no.pt")


def test_checkpointer_round_trip(tmp_path):
    model = net()
    model.load_state_dict(weights())
    Checkpointer(model, str(tmp_path)).save("model_a", iteration=3)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["last_checkpoint", "model_a.pth"]
    assert (tmp_path / "last_checkpoint").read_bytes() == b"model_a.pth"
    other = net()
    extra = Checkpointer(other, str(tmp_path)).resume_or_load("", resume=True)
    assert extra == {"iteration": 3} and same(other.state_dict())


def test_checkpointer_is_strict(tmp_path):
    other = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2))
    torch.save({"model": other.state_dict()}, tmp_path / "other.pth")
    with pytest.raises(UserError) as caught:
        Checkpointer(net()).load(str(tmp_path / "other.pth"))
    message = str(caught.value)
    assert "other.pth does not fit the model of this config" in message
    assert "unknown 2.weight, 2.bias, 3.weight and 1 more (4 in all)" in message
    assert "another shape for 1.weight (2, 2) (the model's is (2,))" in message
    assert "MODEL.ALLOW_PARTIAL_WEIGHTS True" in message

    torch.save({"model": {"0.weight": weights()["0.weight"]}}, tmp_path / "part.pth")
    with pytest.raises(UserError, match=r"it lacks .*\(3 in all\)"):
        Checkpointer(net()).load(str(tmp_path / "part.pth"))
    model = net()
    Checkpointer(model, allow_partial=True).load(str(tmp_path / "part.pth"))
    assert model.state_dict()["0.weight"].equal(weights()["0.weight"])


def test_checkpointer_reports_a_mismatch_behind_renamed_keys(tmp_path):
    class Renaming(nn.Module):
        def __init__(self):
            super().__init__()
            self.ours = nn.Linear(3, 2)
            self.register_load_state_dict_pre_hook(self.rename)

        @staticmethod
        def rename(module, state_dict, *_):
            for key in [k for k in state_dict if k.startswith("theirs.")]:
                state_dict[key.replace("theirs", "ours")] = state_dict.pop(key)

    linear = nn.Linear(5, 2).state_dict()
    torch.save({f"theirs.{k}": v for k, v in linear.items()}, tmp_path / "a.pth")
    with pytest.raises(UserError, match=r"a\.pth.*size mismatch for ours\.weight"):
        Checkpointer(Renaming()).load(str(tmp_path / "a.pth"))


def test_checkpointer_names_missing_files(tmp_path):
    with pytest.raises(UserError, match=r"nothing\.pth is no file"):
        Checkpointer(net()).load(str(tmp_path / "nothing.pth"))
    (tmp_path / "last_checkpoint").write_text("gone.pth")
    with pytest.raises(UserError, match=r"gone\.pth is no file"):
        Checkpointer(net(), str(tmp_path)).resume_or_load("", resume=True)


def test_an_interrupted_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.pth"
    path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt), writing(path) as file:
        file.write(b"half")
        raise KeyboardInterrupt
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_one_error_message(tmp_path):
    class Full:
        def __init__(self, file):
            self.file = file

        def write(self, data):
            raise OSError(errno.ENOSPC, "No space left on device")

        def flush(self):
            self.file.flush()

    message = r"a\.pth cannot be written: No space left"
    with pytest.raises(UserError, match=message), writing(tmp_path / "a.pth") as file:
        torch.save({"w": torch.zeros(100_000)}, Full(file))
    assert not list(tmp_path.iterdir())
    with pytest.raises(RuntimeError, match="a bug"), writing(tmp_path / "a.pth"):
        raise RuntimeError("a bug")


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match=r"model\.pth cannot be written: "):
        Checkpointer(net(), str(tmp_path / "file" / "run")).save("model")


def test_matching_heuristics_by_query(tmp_path):
    inner = nn.ModuleDict({"backbone": net()})
    torch.save(weights(), tmp_path / "a.pth")
    Checkpointer(inner).load(f"{tmp_path}/a.pth?matching_heuristics=True")
    assert same(inner["backbone"].state_dict())
    with pytest.raises(UserError, match="after \\? only matching_heuristics=True"):
        Checkpointer(inner).load(f"{tmp_path}/a.pth?other=1")


# ---- damage ----------------------------------------------------------------------------------


def test_no_flipped_bit_changes_what_is_read(tmp_path):
    """It is harmless, or the file is refused: the zip's checksums are verified."""
    path = tmp_path / "a.pth"
    torch.save({"model": weights(), "iteration": 7}, path)
    content, refused = path.read_bytes(), 0
    for position in random.Random(3).sample(range(len(content)), 400):
        flipped = bytearray(content)
        flipped[position] ^= 1 << position % 8
        path.write_bytes(flipped)
        try:
            checkpoint = read_checkpoint(path)
        except UserError:
            refused += 1
        else:
            assert same(checkpoint["model"]) and checkpoint["iteration"] == 7
    assert refused > 100


def flip_a_bit_of_the_weights(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[content.index(weights()["0.weight"].numpy().tobytes()) + 2] ^= 1
    path.write_bytes(content)


@pytest.fixture
def run(tmp_path) -> Path:
    """A folder with three checkpoints of training."""
    model = net()
    model.load_state_dict(weights())
    checkpointer = Checkpointer(model, str(tmp_path))
    for iteration in (1, 3):
        checkpointer.save(f"model_{iteration:07}", iteration=iteration)
    checkpointer.save("model_final", iteration=5)
    return tmp_path


def test_resuming_goes_back_to_a_checkpoint_that_is_whole(run, caplog):
    model = net()
    for damaged, left in (("model_final", 3), ("model_0000003", 1)):
        flip_a_bit_of_the_weights(run / f"{damaged}.pth")
        caplog.clear()
        assert Checkpointer(model, str(run)).resume_or_load("")["iteration"] == left
        assert same(model.state_dict())
        assert f"{damaged}.pth cannot be read: it is damaged: the checksum" in caplog.text
        assert f"the run resumes from model_{left:07}.pth, which is whole" in caplog.text
    flip_a_bit_of_the_weights(run / "model_0000001.pth")
    with pytest.raises(UserError, match=r"final\.pth is damaged, and .* no earlier checkpoint"):
        Checkpointer(model, str(run)).resume_or_load("")


def test_resuming_does_not_go_on_to_a_later_checkpoint(run):
    (run / "last_checkpoint").write_text("model_0000001.pth")
    flip_a_bit_of_the_weights(run / "model_0000001.pth")
    with pytest.raises(UserError, match=r"model_0000001\.pth is damaged"):
        Checkpointer(net(), str(run)).resume_or_load("")


# ---- use -------------------------------------------------------------------------------------


def test_weights_for_use_are_whole_and_finite(tmp_path, run):
    with pytest.raises(UserError, match=r"MODEL\.WEIGHTS is empty: name a checkpoint"):
        Checkpointer(net()).load_for_use("")
    model = net()
    Checkpointer(model).load_for_use(str(run / "model_final.pth"))
    assert same(model.state_dict()) and not model.training
    Checkpointer(net(), str(run)).load_for_use("", resume=True)

    flip_a_bit_of_the_weights(run / "model_final.pth")
    with pytest.raises(UserError, match=r"model_final\.pth cannot be read: it is damaged"):
        Checkpointer(net(), str(run)).load_for_use("", resume=True)
    torch.save({"0.weight": weights()["0.weight"]}, tmp_path / "part.pth")
    with pytest.raises(UserError, match=r"part\.pth does not fit .* it lacks .*trained with$"):
        Checkpointer(net(), allow_partial=True).load_for_use(str(tmp_path / "part.pth"))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(tmp_path, value):
    state = weights() | {"1.bias": torch.tensor([5.0, value])}
    torch.save({"model": state}, tmp_path / "nan.pth")
    for load in (Checkpointer(net()).load, Checkpointer(net()).load_for_use):
        with pytest.raises(UserError, match=r"nan\.pth holds values of 1\.bias that are not fini"):
            load(str(tmp_path / "nan.pth"))


@pytest.mark.parametrize("address", ["s3://b/m.pth", "gs://b/m.pth"])
def test_an_address_that_nothing_reads_from_is_one_error_message(address):
    with pytest.raises(UserError, match=rf"^{address} cannot be fetched"):
        Checkpointer(net()).load_for_use(address)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda name: f"_orig_mod.{name}",
        lambda name: f"module.{name}",
        lambda name: f"module._orig_mod.{name}",
        lambda name: f"_orig_mod.module.module._orig_mod.{name}",
        lambda name: name.replace(".", "._orig_mod."),
    ],
)
def test_names_lose_what_wrappers_put_before_them(tmp_path, wrap):
    torch.save({"model": {wrap(k): v for k, v in weights().items()}}, tmp_path / "a.pth")
    model = net()
    Checkpointer(model).load_for_use(str(tmp_path / "a.pth"))
    assert same(model.state_dict())
    assert same(read_checkpoint(tmp_path / "a.pth")["model"])


def test_two_entries_of_one_name_are_refused(tmp_path):
    torch.save(weights() | {"_orig_mod.0.bias": torch.zeros(2)}, tmp_path / "a.pth")
    with pytest.raises(UserError, match=r"holds 0\.bias twice"):
        read_checkpoint(tmp_path / "a.pth")
