"""Configs of version 1, before Detectron2's release: some keys had other names."""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from detectron2._absent import absent_message
from detectron2.config.absent_keys import has

_RENAMED = {
    "MODEL.WEIGHT": "MODEL.WEIGHTS",
    "MODEL.PANOPTIC_FPN.SEMANTIC_LOSS_SCALE": "MODEL.SEM_SEG_HEAD.LOSS_WEIGHT",
    "TEST.DETECTIONS_PER_IMG": "TEST.DETECTIONS_PER_IMAGE",
    "TEST.AUG_ON": "TEST.AUG.ENABLED",
    "TEST.AUG_MIN_SIZES": "TEST.AUG.MIN_SIZES",
    "TEST.AUG_MAX_SIZE": "TEST.AUG.MAX_SIZE",
    "TEST.AUG_FLIP": "TEST.AUG.FLIP",
}


def is_version_1(config: Mapping) -> bool:
    """Guess the version of a config without the key VERSION."""
    return has(config, "MODEL.WEIGHT") or has(config, "TEST.AUG_ON")


def upgraded(config: dict[str, Any]) -> dict[str, Any]:
    """Return a config of version 1 with the current names.

    Raises:
        KeyError: a key has its current name already, which version 1 did not have, or the old name
            of a key that is left out here.
    """
    config = deepcopy(config)
    config.pop("VERSION", None)
    for old, new in _RENAMED.items():
        if has(config, new):
            raise KeyError(f"a config of version 1 has no key {new}: it is called {old} there")
    for old, new in _RENAMED.items():
        if has(config, old):
            _put(config, new, _take(config, old))
    if has(config, "MODEL.RPN_HEAD"):
        raise KeyError(absent_message("The config key MODEL.RPN_HEAD"))
    return config


def _take(config: dict[str, Any], path: str) -> Any:
    """Remove a key and return its value; groups that are empty then go with it."""
    head, _, rest = path.partition(".")
    if not rest:
        return config.pop(head)
    value = _take(config[head], rest)
    if not config[head]:
        del config[head]
    return value


def _put(config: dict[str, Any], path: str, value: Any) -> None:
    *groups, last = path.split(".")
    for group in groups:
        config = config.setdefault(group, {})
    config[last] = value
