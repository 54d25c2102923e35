"""Extract the small committed table of facts from the reference outputs.

    python tests/d2lite/make_facts.py GOLDEN_FOLDER

A clone without the reference outputs is tested against this table.
"""

import json
import sys
from pathlib import Path

import numpy as np

folder = Path(sys.argv[1]) / "detectron2"
behaviour = json.loads((folder / "behaviour.json").read_text())
arrays = np.load(folder / "behaviour.npz")
contract = json.loads((folder / "contract.json").read_text())["names"]
defaults = json.loads((folder / "defaults.json").read_text())["get_cfg"]

data, training = behaviour["data"], behaviour["training"]
SIGNATURES = [
    "config.configurable",
    "data.DatasetMapper",
    "data.build_detection_train_loader",
    "data.build_detection_test_loader",
    "data.samplers.TrainingSampler",
    "data.transforms.FixedSizeCrop",
    "data.transforms.RandomCrop_CategoryAreaConstraint",
    "data.transforms.ResizeShortestEdge",
    "data.datasets.load_sem_seg",
    "modeling.postprocessing.sem_seg_postprocess",
    "solver.get_default_optimizer_params",
    "engine.SimpleTrainer",
    "engine.AMPTrainer",
    "engine.create_ddp_model",
    "evaluation.inference_on_dataset",
    "utils.logger.setup_logger",
    "projects.point_rend.ColorAugSSDTransform",
]

facts = {
    "signatures": {
        f"detectron2.{name}": contract[f"detectron2.{name}"]["signature_text"]
        for name in SIGNATURES
    },
    "defaults": {
        path: leaf["value"]
        for path, leaf in defaults.items()
        if path.startswith(("SOLVER.", "INPUT.", "DATALOADER."))
    },
    "shortest_edge_choice": data["ResizeShortestEdge"]["under_seed_0"]["choice_256_1024_2048"][:4],
    "shortest_edge_input": arrays["rse/input_hw"][:4].tolist(),
    "flip_seed_2": data["RandomFlip"]["types"],
    "crop_seed_3": data["RandomCrop"]["cases"],
    "training_samplers": data["samplers"]["training"],
    "loader_with_2_workers": data["loaders"]["train_loader_workers2"],
    "schedule_iterations": arrays["lr/catseg/iter"].tolist(),
    "schedules": {
        name: arrays[f"lr/catseg/{name}"].tolist()
        for name in ("WarmupMultiStepLR", "WarmupCosineLR")
    },
    "scaled": training["DefaultTrainer"]["auto_scale_workers"],
}
target = Path(__file__).with_name("facts.json")
lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in facts.items()]
target.write_text("{\n" + ",\n".join(lines) + "\n}\n")
