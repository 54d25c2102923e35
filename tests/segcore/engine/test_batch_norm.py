"""Batch norm over two processes on CPUs equals one process with the whole batch."""

from pathlib import Path

import pytest
import torch
from torch import nn

from segcore.engine.batch_norm import CPUSyncBatchNorm, synchronize_on_cpu

WORKER = """
import json, sys
from pathlib import Path
import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel
from segcore.engine.batch_norm import synchronize_on_cpu

folder, rank, size = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
distributed.init_process_group("gloo", f"file://{folder}/store{size}", rank=rank, world_size=size)
torch.manual_seed(0)
conv = [nn.Conv2d(3, 4, 3), nn.SyncBatchNorm(4), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.SyncBatchNorm(4)]
model = nn.Sequential(*conv)
synchronize_on_cpu(model)
parallel = DistributedDataParallel(model, broadcast_buffers=False)
images = torch.randn(4, 3, 9, 9) * 3 + 1
part = images[rank * 4 // size : (rank + 1) * 4 // size]
loss = parallel(part).pow(3).mean()
loss.backward()
values = [p.grad.double().sum().item() for p in model.parameters()]
values += [b.double().sum().item() for b in model.buffers()]
print(json.dumps(values))
"""


def test_two_processes_equal_one(run_processes, tmp_path: Path) -> None:
    one, two = (run_processes(WORKER, tmp_path, size) for size in (1, 2))
    assert two[0] == two[1]
    assert two[0] == pytest.approx(one[0], rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_equals_batch_norm(training: bool) -> None:
    torch.manual_seed(0)
    ours = nn.Sequential(nn.Conv2d(3, 5, 1), nn.SyncBatchNorm(5, momentum=0.01))
    plain = nn.Sequential(nn.Conv2d(3, 5, 1), nn.BatchNorm2d(5, momentum=0.01))
    nn.init.normal_(ours[1].weight)
    plain.load_state_dict(ours.state_dict())
    weight = ours[1].weight
    synchronize_on_cpu(ours)
    assert isinstance(ours[1], CPUSyncBatchNorm) and ours[1].weight is weight
    images, gradients = torch.randn(2, 3, 7, 6) * 5 + 3, []
    for model in (ours.train(training), plain.train(training)):
        model(images).pow(3).mean().backward()
        gradients.append([p.grad for p in model.parameters()])
    torch.testing.assert_close(*gradients)
    torch.testing.assert_close(ours(images), plain(images))
    torch.testing.assert_close(ours.state_dict(), plain.state_dict())
