"""The default values of every config key of d2lite.

Keys of detectors (region proposals, box, mask and key point heads) are left out. A merge checks
new values against the types found here, so 0.0 and 0 are different things.
"""

from typing import Any

_MODEL: dict[str, Any] = {
    "META_ARCHITECTURE": "GeneralizedRCNN",
    "DEVICE": "cuda",
    "WEIGHTS": "",
    "LOAD_PROPOSALS": False,
    "MASK_ON": False,
    "KEYPOINT_ON": False,
    # Blue, green, red of the images that the classic backbones were pre-trained on.
    "PIXEL_MEAN": [103.530, 116.280, 123.675],
    "PIXEL_STD": [1.0, 1.0, 1.0],
    "BACKBONE": {"NAME": "build_resnet_backbone", "FREEZE_AT": 2},
    "RESNETS": {
        "DEPTH": 50,
        "OUT_FEATURES": ["res4"],
        "NORM": "FrozenBN",
        "NUM_GROUPS": 1,
        "WIDTH_PER_GROUP": 64,
        "STRIDE_IN_1X1": True,
        "RES5_DILATION": 1,
        "RES2_OUT_CHANNELS": 256,
        "STEM_OUT_CHANNELS": 64,
        "DEFORM_ON_PER_STAGE": [False, False, False, False],
        "DEFORM_MODULATED": False,
        "DEFORM_NUM_GROUPS": 1,
    },
    "SEM_SEG_HEAD": {
        "NAME": "SemSegFPNHead",
        "IN_FEATURES": ["p2", "p3", "p4", "p5"],
        "NUM_CLASSES": 54,
        "IGNORE_VALUE": 255,
        "CONVS_DIM": 128,
        "COMMON_STRIDE": 4,
        "NORM": "GN",
        "LOSS_WEIGHT": 1.0,
    },
    "ROI_KEYPOINT_HEAD": {"MIN_KEYPOINTS_PER_IMAGE": 1},
}

_INPUT: dict[str, Any] = {
    "FORMAT": "BGR",
    "MASK_FORMAT": "polygon",
    "RANDOM_FLIP": "horizontal",
    "MIN_SIZE_TRAIN": (800,),
    "MIN_SIZE_TRAIN_SAMPLING": "choice",
    "MAX_SIZE_TRAIN": 1333,
    "MIN_SIZE_TEST": 800,
    "MAX_SIZE_TEST": 1333,
    "CROP": {"ENABLED": False, "TYPE": "relative_range", "SIZE": [0.9, 0.9]},
}

_DATASETS: dict[str, Any] = {
    "TRAIN": (),
    "TEST": (),
    "PROPOSAL_FILES_TRAIN": (),
    "PROPOSAL_FILES_TEST": (),
    "PRECOMPUTED_PROPOSAL_TOPK_TRAIN": 2000,
    "PRECOMPUTED_PROPOSAL_TOPK_TEST": 1000,
}

_DATALOADER: dict[str, Any] = {
    "NUM_WORKERS": 4,
    "ASPECT_RATIO_GROUPING": True,
    "SAMPLER_TRAIN": "TrainingSampler",
    "REPEAT_THRESHOLD": 0.0,
    "REPEAT_SQRT": True,
    "FILTER_EMPTY_ANNOTATIONS": True,
}

_SOLVER: dict[str, Any] = {
    "IMS_PER_BATCH": 16,
    "REFERENCE_WORLD_SIZE": 0,
    "MAX_ITER": 40000,
    "CHECKPOINT_PERIOD": 5000,
    "BASE_LR": 0.001,
    "BASE_LR_END": 0.0,
    "LR_SCHEDULER_NAME": "WarmupMultiStepLR",
    "GAMMA": 0.1,
    "STEPS": (30000,),
    "NUM_DECAYS": 3,
    "WARMUP_FACTOR": 1.0 / 1000,
    "WARMUP_ITERS": 1000,
    "WARMUP_METHOD": "linear",
    "RESCALE_INTERVAL": False,
    "MOMENTUM": 0.9,
    "NESTEROV": False,
    "WEIGHT_DECAY": 0.0001,
    "WEIGHT_DECAY_NORM": 0.0,
    "WEIGHT_DECAY_BIAS": None,
    "BIAS_LR_FACTOR": 1.0,
    "CLIP_GRADIENTS": {
        "ENABLED": False,
        "CLIP_TYPE": "value",
        "CLIP_VALUE": 1.0,
        "NORM_TYPE": 2.0,
    },
    "AMP": {"ENABLED": False},
}

_TEST: dict[str, Any] = {
    "EVAL_PERIOD": 0,
    "EXPECTED_RESULTS": [],
    "DETECTIONS_PER_IMAGE": 100,
    "KEYPOINT_OKS_SIGMAS": [],
    "AUG": {
        "ENABLED": False,
        "MIN_SIZES": (400, 500, 600, 700, 800, 900, 1000, 1100, 1200),
        "MAX_SIZE": 4000,
        "FLIP": True,
    },
    "PRECISE_BN": {"ENABLED": False, "NUM_ITER": 200},
}

DEFAULTS: dict[str, Any] = {
    "VERSION": 2,
    "MODEL": _MODEL,
    "INPUT": _INPUT,
    "DATASETS": _DATASETS,
    "DATALOADER": _DATALOADER,
    "SOLVER": _SOLVER,
    "TEST": _TEST,
    "OUTPUT_DIR": "./output",
    "SEED": -1,
    "CUDNN_BENCHMARK": False,
    "FLOAT32_PRECISION": "",
    "VIS_PERIOD": 0,
    "GLOBAL": {"HACK": 1.0},
}
