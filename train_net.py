#!/usr/bin/env python
"""Train and evaluate any model of this project: CAT-Seg, Mask2Former, RankSeg.

A config defines the model and the task; configs/INDEX.md lists those that come
with the project. On the CPU, or on one GPU where there is one:

    python train_net.py --config-file configs/catseg_d2/vitb_384.yaml

On all four GPUs of a machine (or, without a GPU, in four processes on the CPU):

    python train_net.py --config-file configs/catseg_d2/vitb_384.yaml --num-gpus 4

On two machines with four GPUs each, the first of which is called node0:

    python train_net.py --config-file configs/catseg_d2/vitb_384.yaml --num-gpus 4 \
        --num-machines 2 --machine-rank 0 --dist-url tcp://node0:29500     # on node0
    python train_net.py --config-file configs/catseg_d2/vitb_384.yaml --num-gpus 4 \
        --num-machines 2 --machine-rank 1 --dist-url tcp://node0:29500     # on the other

The same by torchrun, which starts the processes itself:

    torchrun --nproc-per-node 4 --nnodes 2 --rdzv-backend c10d --rdzv-endpoint node0:29500 \
        train_net.py --config-file configs/catseg_d2/vitb_384.yaml

Resume an interrupted run, and evaluate a checkpoint:

    python train_net.py --config-file configs/catseg_d2/vitb_384.yaml --resume
    python train_net.py --config-file configs/catseg_d2/vitb_384.yaml --eval-only \
        MODEL.WEIGHTS model.pth DATASETS.TEST "('ade20k_sem_seg_val',)"

KEY VALUE pairs at the end change the config; flags come before them. Results, logs and checkpoints
go to OUTPUT_DIR.
"""

import catrank.interrupts  # noqa: F401  before all that takes time to load

# isort: split

# First, because segcore silences a warning that Detectron2's parts cause as they are loaded.
from catrank import import_families

# isort: split
from detectron2.engine import default_argument_parser

from catrank.training import main
from segcore.engine import launch
from segcore.errors import exit_on_user_error

if __name__ == "__main__":
    with exit_on_user_error(": --resume continues from the last checkpoint"):
        arguments = default_argument_parser(epilog=__doc__).parse_args()
        import_families(arguments.config_file, arguments.opts)  # here, and in every process
        launch(main, arguments)
