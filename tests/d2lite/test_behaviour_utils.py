"""Scalars, loggers, seeds, and out-of-memory errors."""

import json
import logging
import random
import re

import numpy as np
import pytest
import torch
from detectron2.utils import comm
from detectron2.utils.env import seed_all_rng
from detectron2.utils.events import (
    CommonMetricPrinter,
    EventStorage,
    JSONWriter,
    get_event_storage,
    has_event_storage,
)
from detectron2.utils.file_io import PathManager
from detectron2.utils.logger import setup_logger
from detectron2.utils.memory import retry_if_cuda_oom


@pytest.fixture
def facts(behaviour):
    return behaviour["training"]


def test_event_storage(facts, tmp_path, raised):
    facts = facts["events"]
    assert raised(get_event_storage) == facts["outside"]
    assert has_event_storage() == facts["has_outside"]
    path = tmp_path / "metrics.json"
    with EventStorage(3) as storage:
        assert get_event_storage() is storage
        writer = JSONWriter(str(path))
        for loss, iteration in facts["values"]:
            assert storage.iter == storage.iteration == iteration
            storage.put_scalar("loss", loss)
            storage.put_scalar("lr", (iteration - 3) / 10, smoothing_hint=False)
            if iteration == 5:
                with storage.name_scope("val"):
                    storage.put_scalar("acc", 0.5)
                writer.write()
            if iteration < 8:
                storage.step()
        writer.write()
        writer.close()
        assert {n: list(v) for n, v in storage.latest().items()} == facts["latest"]
        smoothed = storage.latest_with_smoothing_hint(3)
        assert {n: list(v) for n, v in smoothed.items()} == facts["smoothed_window_3"]
        assert raised(storage.history, "nope") == facts["unknown_history"]
        assert raised(storage.put_scalar, "lr", 1.0) == facts["changed_hint"]
        assert sorted(storage.histories()) == facts["histories"]
        history = storage.history("loss")
        assert history.avg(3) == pytest.approx(facts["avg_3"])
        assert history.median(3) == facts["median_3"]
        assert history.global_avg() == pytest.approx(facts["global_avg"])
        assert storage.count_samples("loss", 3) == 3
        with EventStorage() as inner:
            assert get_event_storage() is inner
        assert get_event_storage() is storage
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["iteration"] for line in lines] == [5, 8]
    assert lines[0] == facts["json_lines"][0]
    assert list(lines[0]) == sorted(lines[0])


def test_printer(facts, log_lines):
    facts = facts["events"]["printer"]
    lines = log_lines(facts["logger"])
    with EventStorage() as storage:
        for name in ("loss_a", "loss_b", "[metric]/x", "time", "data_time"):
            storage.put_scalar(name, 1.23456789)
        storage.put_scalar("lr", 0.000123456789, smoothing_hint=False)
        storage.put_scalar("acc", 1.0)
        CommonMetricPrinter(max_iter=10).write()
        assert "eta_seconds" in storage.latest()
    fields = re.findall(r"([^\s:]+): ", lines[-1])
    assert [f for f in fields if f != "max_mem"] == facts["line_fields_in_order"]
    values = dict(re.findall(r"(\S+): +(\S+)", lines[-1]))
    assert (values["loss_a"], values["time"], values["lr"]) == ("1.235", "1.2346", "0.00012346")


@pytest.fixture
def logger_names():
    """Names of loggers that lose their handlers afterwards."""
    names = [f"d2lite_test_{i}" for i in range(5)]
    yield iter(names)
    for name in names:
        logging.getLogger(name).handlers.clear()


def test_logger(facts, tmp_path, logger_names, capsys):
    facts = facts["setup_logger"]
    name = next(logger_names)
    logger = setup_logger(str(tmp_path), name=name)
    assert setup_logger(str(tmp_path), name=name) is logger
    assert [type(h).__name__ for h in logger.handlers] == facts["handlers_rank0"]
    assert not logger.propagate
    other = setup_logger(str(tmp_path), 1, name=next(logger_names))
    assert [type(h).__name__ for h in other.handlers] == facts["handlers_rank1"]
    quiet = setup_logger(None, 1, name=next(logger_names))
    assert [type(h).__name__ for h in quiet.handlers] == facts["handlers_no_output_rank1"]
    setup_logger(str(tmp_path / "my.txt"), name=next(logger_names))
    setup_logger(str(tmp_path / "my.log"), 2, name=next(logger_names))
    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == facts["folder_rank0_rank1_txt_log_rank2_files"]
    logger.info("hi")
    moment = r"\[\d\d/\d\d \d\d:\d\d:\d\d"
    assert re.fullmatch(moment + rf"\] {name} INFO: hi\n", (tmp_path / "log.txt").read_text())
    seen = re.sub(r"\x1b\[\d+m", "", capsys.readouterr().out)
    assert re.fullmatch(moment + rf" {name}\]: hi\n", seen)


def test_logger_abbreviates(facts, tmp_path):
    before = list(logging.getLogger("detectron2").handlers)
    logger = setup_logger(str(tmp_path / "short.txt"))
    logging.getLogger("detectron2.some.where").info("hi")
    assert " d2.some.where INFO: hi" in (tmp_path / "short.txt").read_text()
    logger.handlers[:] = before


def test_seeds(facts):
    for seed, expected in facts["seed_all_rng"]["cases"].items():
        seed_all_rng(int(seed))
        assert np.random.randint(10**9) == expected["numpy_randint_1e9"]
        assert torch.rand(1).item() == pytest.approx(expected["torch_rand"], abs=1e-6)
        assert random.random() == pytest.approx(expected["python_random"], abs=1e-6)
    seed_all_rng(None)


def test_out_of_memory(facts, raised):
    calls = []

    @retry_if_cuda_oom
    def function(failures):
        calls.append(1)
        if len(calls) <= failures:
            raise RuntimeError("CUDA out of memory. Tried to allocate")
        return 3

    assert function(0) == facts["retry_if_cuda_oom"]["passes_result"]
    calls.clear()
    assert function(2) == 3
    assert len(calls) == facts["retry_if_cuda_oom"]["calls_when_first_two_fail"]
    divide = retry_if_cuda_oom(lambda: 1 / 0)
    assert raised(divide) == facts["retry_if_cuda_oom"]["other_errors_raised"]


def test_paths(facts, tmp_path, raised):
    facts = facts["PathManager"]
    assert all(hasattr(PathManager, name) for name in facts["methods_used"])
    assert raised(PathManager.open, str(tmp_path / "x")) == facts["missing_open"]
    assert PathManager.get_local_path(str(tmp_path)) == str(tmp_path)


def test_one_process(facts, raised):
    facts = facts["launch"]["single_process_comm"]
    assert comm.all_gather(3) == facts["all_gather"]
    assert comm.gather(3) == facts["gather"]
    assert comm.get_local_rank() == facts["local_rank"]
    assert comm.reduce_dict({"a": 1}) == facts["reduce_dict"]
    assert raised(comm.get_local_process_group) == facts["local_group"]
    assert (comm.get_world_size(), comm.get_rank(), comm.is_main_process()) == (1, 0, True)
    np.random.seed(0)
    expected = np.random.randint(2**31)
    np.random.seed(0)
    assert comm.shared_random_seed() == expected


def test_names_of_published_weights(tmp_path, monkeypatch):
    """Detectron2 and d2lite share the cache of downloaded files."""
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path))
    name = "ImageNetPretrained/of_this_test/R-50.pkl"  # iopath remembers addresses: not another's
    path = tmp_path / "detectron2" / name
    path.parent.mkdir(parents=True)
    path.write_bytes(b"weights")
    assert PathManager.get_local_path(f"detectron2://{name}") == str(path)
    with PathManager.open(f"detectron2://{name}", "rb") as file:
        assert file.read() == b"weights"


def test_published_weights_are_not_fetched(lite_only, tmp_path, monkeypatch):
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path))
    with pytest.raises(OSError, match=r"fetch https://.*/x/R-50\.pkl and save it as .*MODEL\.W"):
        PathManager.get_local_path("detectron2://x/R-50.pkl")
