"""The interface of Detectron2's model zoo; its models are not part of d2lite.

Scripts may import it, since most of them need only some of what they import; each call is refused.
"""

from typing import Any, NoReturn

from detectron2._absent import absent_message


def _refuse(config_path: str) -> NoReturn:
    raise RuntimeError(absent_message(f"{config_path} of Detectron2's model zoo"))


def get_config_file(config_path: str) -> str:
    """Raise a RuntimeError, as Detectron2 does for a name that its model zoo does not have."""
    _refuse(config_path)


def get_checkpoint_url(config_path: str) -> str:
    """Raise a RuntimeError; see :func:`get_config_file`."""
    _refuse(config_path)


def get_config(config_path: str, trained: bool = False) -> Any:
    """Raise a RuntimeError; see :func:`get_config_file`."""
    _refuse(config_path)


def get(config_path: str, trained: bool = False, device: str | None = None) -> Any:
    """Raise a RuntimeError; see :func:`get_config_file`."""
    _refuse(config_path)
