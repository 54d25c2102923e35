"""Read Detectron2 configs safely; a wrong file, key or value is one clear error message."""

from .loading import (
    CONFIG_FOLDERS,
    TASK_SWITCHES,
    add_shared_keys,
    default_config,
    find_config,
    load_config,
    register_config_keys,
    task_switches,
)

__all__ = [
    "CONFIG_FOLDERS",
    "TASK_SWITCHES",
    "add_shared_keys",
    "default_config",
    "find_config",
    "load_config",
    "register_config_keys",
    "task_switches",
]
