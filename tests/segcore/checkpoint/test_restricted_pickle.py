"""The readers of pickles, ours and the stand-in's: what they read, and what they refuse."""

import importlib
import io
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
import pickle_corpus as corpus

READERS = ("segcore.checkpoint.restricted_pickle", "detectron2.checkpoint.restricted_pickle")
FILES = ("pickle_machine.py", "pickled_tensors.py", "restricted_pickle.py")


@pytest.fixture(params=READERS, ids=["segcore", "d2lite"])
def reader(request):
    return pytest.importorskip(request.param, reason="Detectron2 has no such reader")


def same(ours: object, theirs: object) -> bool:
    if isinstance(theirs, torch.Tensor):
        return ours.dtype == theirs.dtype and ours.shape == theirs.shape and ours.equal(theirs)
    if isinstance(theirs, np.ndarray | np.generic):
        return ours.dtype == theirs.dtype.newbyteorder("=") and np.array_equal(ours, theirs)
    if isinstance(theirs, dict):
        return list(ours) == list(theirs) and all(same(ours[key], theirs[key]) for key in theirs)
    if isinstance(theirs, list | tuple):
        return type(ours) is type(theirs) and all(map(same, ours, theirs))
    return type(ours) is type(theirs) and ours == theirs


def test_the_stand_in_reads_with_the_same_files(repository):
    for name in FILES:
        theirs = repository / "d2lite" / "detectron2" / "checkpoint" / name
        assert (repository / "segcore" / "checkpoint" / name).read_bytes() == theirs.read_bytes()


@pytest.mark.parametrize(("name", "case"), corpus.good_pickles().items())
def test_reads_pickles(reader, name, case):
    pickled, content = case
    assert same(reader.load_pickle(io.BytesIO(pickled)), content)


@pytest.mark.parametrize(("name", "case"), corpus.good_torch_files().items())
def test_reads_what_torch_saves(reader, name, case, tmp_path):
    saved, content = case
    assert same(reader.load_torch(io.BytesIO(saved)), content)
    (tmp_path / "a.pth").write_bytes(saved)
    with (tmp_path / "a.pth").open("rb") as file:
        read = reader.load_torch(file)
    assert same(read, content)
    tensor = next(iter(read.values())) if "model" not in read else read["model"]["weight"]
    tensor.add_(1)  # a copy in memory: the file stays as it is
    assert (tmp_path / "a.pth").read_bytes() == saved


def test_tensors_outlive_the_file(reader, tmp_path):
    """A run that goes on saves over the file that it was read from."""
    path = tmp_path / "a.pth"
    path.write_bytes(corpus.saved(torch.arange(300_000)))
    with path.open("rb") as file:
        tensor = reader.load_torch(file)
    path.write_bytes(b"")
    assert tensor[-1] == 299_999


def test_tensors_of_one_storage_share_it(reader):
    whole = torch.arange(6.0)
    pair = reader.load_torch(io.BytesIO(corpus.saved([whole, whole[2:]])))
    pair[0][3] = 9
    assert pair[1].tolist() == [2, 9, 4, 5]


def test_reads_pickles_of_python_2(reader):
    """Its texts are bytes in Latin-1, and an OrderedDict is called with its entries."""
    pickled = (
        b"(dp0\nS'model'\np1\n(dp2\nS'w'\nccollections\nOrderedDict\n((lp3\n(lp4\nS'\\xe9'\naI7\naa"
        b"tRsS'array'\ncnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR"
        b"(I1\n(I2\ntcnumpy\ndtype\n(S'u1'\nI0\nI1\ntR(I3\nS'|'\nNNNI-1\nI-1\nI0\ntbI00\n"
        b"S'\\x01\\xff'\ntbss."
    )
    model = reader.load_pickle(io.BytesIO(pickled))["model"]
    assert model["w"] == {"é": 7} and model["array"].tolist() == [1, 255]
    assert model["array"].dtype == np.uint8


@pytest.fixture
def traces(tmp_path, monkeypatch):
    """Refuses that a test leaves something where it ran, or changes what is read next."""
    monkeypatch.chdir(tmp_path)
    before = torch._utils._rebuild_tensor_v2.__defaults__
    yield
    assert not list(tmp_path.iterdir())
    assert torch._utils._rebuild_tensor_v2.__defaults__ is before
    saved, content = corpus.good_torch_files()["state dict, zip"]
    for name in READERS:
        try:
            module = importlib.import_module(name)
        except ModuleNotFoundError:
            continue
        assert same(module.load_torch(io.BytesIO(saved)), content)


@pytest.mark.parametrize(("name", "pickled"), corpus.bad_pickles().items())
def test_refuses_pickles(reader, traces, name, pickled):
    with pytest.raises(pickle.UnpicklingError):
        reader.load_pickle(io.BytesIO(pickled))


@pytest.mark.parametrize(("name", "saved"), corpus.bad_torch_files().items())
def test_refuses_torch_files(reader, traces, name, saved):
    with pytest.raises(pickle.UnpicklingError):
        reader.load_torch(io.BytesIO(saved))


def test_says_what_is_wrong(reader):
    bad, files = corpus.bad_pickles(), corpus.bad_torch_files()
    for name, message in {
        "calls a program": r"^it wants to run os\.system$",
        "objects by code": "array of something that is no number",
        "a tensor that repeats its storage": r"tensor of \(1099511627776,\) in a storage of 8 numb",
        "deep tuples": "nested more than 32 deep",
        "a list in itself": "nested more than 32 deep",
        "lists of lists of lists": "claims more values than a file of its size",
        "a key of pairs of pairs": "a key of a dict is a tuple",
        "one megabyte as thousands of arrays": "claims more bytes than a file of its size",
        "millions of lists": "claims more values than a file of its size",
        "cut short": "cut short|damaged",
    }.items():
        with pytest.raises(pickle.UnpicklingError, match=message):
            reader.load_pickle(io.BytesIO(bad[name]))
    with pytest.raises(pickle.UnpicklingError, match="the checksum of data/0 is wrong"):
        reader.load_torch(io.BytesIO(files["a flipped bit"]))
    with pytest.raises(reader.TorchScriptError, match="a program"):
        reader.load_torch(io.BytesIO(files["a program"]))


def test_reads_files_without_check_sums(reader):
    torch.serialization.set_crc32_options(False)
    try:
        saved = corpus.saved({"w": torch.arange(3)})
    finally:
        torch.serialization.set_crc32_options(True)
    assert not any(entry.CRC for entry in zipfile.ZipFile(io.BytesIO(saved)).infolist())
    assert reader.load_torch(io.BytesIO(saved))["w"].tolist() == [0, 1, 2]


@pytest.mark.slow
def test_no_mutation_of_a_file_is_a_crash(repository):
    """20,000 of them, in a process with little memory that may run nothing."""
    script = Path(__file__).with_name("pickle_fuzz.py")
    command = [sys.executable, str(script), "20000"]
    done = subprocess.run(
        command, cwd=repository, capture_output=True, text=True, timeout=500, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    counts = dict(word.split("=") for word in done.stdout.split())
    assert int(counts["mutations"]) == 20_000
    # Some are harmless; most are not.
    assert 200 < int(counts["read"]) < int(counts["refused"])
