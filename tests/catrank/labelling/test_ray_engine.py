"""Ray's labels are those of one process, with one worker or two, on one machine or two."""

import importlib
import signal
import sys
from pathlib import Path

import pytest

from catrank.labelling import label, ray_driver, ray_engine, ray_worker
from segcore.errors import UserError

pytest.importorskip("ray", reason="labelling on several workers: pip install -e .[scale]")

LOADING = {"model": "scenes-60-panoptic", "device": "cpu"}


def run(photos: Path, output: Path, **options) -> dict:
    return label(
        [str(photos)],
        output,
        loading=LOADING,
        batch_size=2,
        shard_size=4,
        label_png=True,
        **options,
    )


@pytest.mark.slow
def test_ray_equals_one_process(photos, tmp_path, files) -> None:
    importlib.import_module("per_pixel")  # config keys that the workers do not have
    run(photos, tmp_path / "local", workers=1)
    manifest = run(photos, tmp_path / "ray", engine="ray", workers=2)
    assert (manifest["images"], manifest["errors"]) == (11, 2)
    assert files(tmp_path / "ray") == files(tmp_path / "local")


@pytest.mark.slow
def test_two_raylets_equal_one_process(photos, tmp_path, files) -> None:
    from ray.cluster_utils import Cluster

    handler = signal.getsignal(signal.SIGTERM)  # which Ray replaces
    node = {"num_cpus": 1, "object_store_memory": 100 << 20, "include_dashboard": False}
    run(photos, tmp_path / "local", workers=1)
    cluster = Cluster(initialize_head=True, head_node_args=node)
    try:
        cluster.add_node(**node)
        run(photos, tmp_path / "two", engine="ray", address=cluster.address, workers=2)
        with pytest.raises(UserError, match="too few for 3 workers of 1 threads"):
            run(photos, tmp_path / "three", engine="ray", address=cluster.address, workers=3)
        # Three workers of a Ray of its own, though one with two processors runs here.
        run(photos, tmp_path / "own", engine="ray", workers=3)
    finally:
        cluster.shutdown()
        signal.signal(signal.SIGTERM, handler)
    assert files(tmp_path / "two") == files(tmp_path / "local")
    assert files(tmp_path / "own") == files(tmp_path / "local")


@pytest.fixture
def plan_of(photos, tmp_path):
    """Return a function that writes a plan, and labels nothing."""

    def write(output: Path):
        from catrank.labelling.hashes import model_hash
        from catrank.labelling.plan import Settings, make_plan
        from catrank.labelling.sources import list_items
        from catrank.model import load

        settings = Settings(model_hash(load(**LOADING)), "v", 0.5, 2, 4, 1, False)
        output.mkdir()
        return make_plan(output, list_items([str(photos)]), settings)

    return write


def test_a_worker_reports_user_errors_and_keeps_finished_shards(
    plan_of, tmp_path, monkeypatch
) -> None:
    """The actor, in this process."""
    import numpy as np

    plan = plan_of(tmp_path / "out")
    worker = ray_worker.ShardWorker(LOADING, str(plan.folder))
    batch = {"shard": np.array([1, 2])}
    assert worker(batch)["failure"] == ["", ""]
    calls = []
    monkeypatch.setattr(ray_worker, "label_shard", lambda *a: calls.append(a))
    assert worker(batch)["failure"] == ["", ""] and not calls

    def full(*_: object) -> None:
        raise UserError("cannot write: No space left on device")

    monkeypatch.setattr(ray_worker, "label_shard", full)
    assert worker({"shard": np.array([0])})["failure"] == ["cannot write: No space left on device"]
    # As after kills: each leaves its mark.
    (plan.folder / "labels" / ".part-attempts-000000").write_bytes(b"." * ray_worker.ATTEMPTS)
    assert "has ended 10 workers" in worker({"shard": np.array([0])})["failure"][0]
    other = ray_worker.ShardWorker(LOADING | {"model": "scenes-60-rankseg"}, str(plan.folder))
    assert "has another model of that name" in other(batch)["failure"][0]


def test_ray_is_named_where_it_is_absent(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match="or add --engine local"):
        ray_engine.check_installed()


def test_a_gpu_by_its_number_is_refused() -> None:
    with pytest.raises(UserError, match="Ray assigns GPUs"):
        ray_driver._gpus("cuda:1")
