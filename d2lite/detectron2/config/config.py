"""The config node, its safe yaml reader, and ``configurable``."""

import copy
import functools
import inspect
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fvcore.common.config import BASE_KEY
from fvcore.common.config import CfgNode as _FvcoreNode

from detectron2._absent import absent_message
from detectron2.config.absent_keys import ABSENT, absent_key
from detectron2.config.version_1 import is_version_1, upgraded
from detectron2.config.yaml_files import check_keys, read_yaml
from detectron2.utils.file_io import PathManager

LATEST_VERSION = 2
_REMOTE = ("http://", "https://")
_MAX_FILES = 100  # that belong to one config


def _overlay(upper: dict, lower: dict) -> dict:
    """Merge nested dicts; ``upper`` wins. ``lower`` is changed and returned."""
    for key, value in upper.items():
        if isinstance(value, dict) and key in lower:
            if not isinstance(lower[key], dict):
                raise AssertionError(f"{key} is a group of keys here but a value in {BASE_KEY}")
            _overlay(value, lower[key])
        else:
            lower[key] = value
    return lower


class CfgNode(_FvcoreNode):
    """A config: a dict with attribute access whose leaves keep their types.

    ``merge_from_file`` follows ``_BASE_`` (a path or a list of paths, relative to the file) and
    never runs code out of a yaml file.
    """

    @classmethod
    def _open_cfg(cls, filename: str) -> Any:
        return PathManager.open(filename, "r")

    @classmethod
    def load_yaml_with_base(cls, filename: str, allow_unsafe: bool = False) -> dict[str, Any]:
        """Read a yaml file and everything that it inherits.

        Args:
            filename: path of the file.
            allow_unsafe: also understand the list-of-lengths tag of published files. Other Python
                tags raise ``yaml.constructor.ConstructorError`` in any case.

        Raises:
            OSError: a file cannot be read.
            ValueError: a file holds no keys or too much, ``_BASE_`` is neither a path nor a list of
                paths, or the bases do not end.
        """
        return cls._read_with_bases(filename, allow_unsafe, {})

    @classmethod
    def _read_with_bases(
        cls, filename: str, allow_unsafe: bool, read: dict[str, dict | None]
    ) -> dict[str, Any]:
        """Read a file and its bases, each once: ``read`` holds the results (None: in progress)."""
        if filename in read:
            if read[filename] is None:
                raise ValueError(f"{filename} is its own {BASE_KEY}")
            return copy.deepcopy(read[filename])
        if len(read) >= _MAX_FILES:
            raise ValueError(f"{filename} is one of more than {_MAX_FILES} bases")
        read[filename] = None
        with cls._open_cfg(filename) as file:
            content = read_yaml(file, filename, lengths=allow_unsafe)
        bases = content.pop(BASE_KEY, [])
        bases = bases if isinstance(bases, list) else [bases]
        if not all(isinstance(base, str) and "\0" not in base for base in bases):
            raise ValueError(f"{filename}: {BASE_KEY} is {bases!r:.60}, but takes names of files")
        merged: dict[str, Any] = {}
        for base in bases:
            path = base if base.startswith(_REMOTE) else _beside(filename, base)
            _overlay(cls._read_with_bases(path, allow_unsafe, read), merged)
        read[filename] = _overlay(content, merged)
        return copy.deepcopy(merged)

    def merge_from_file(self, cfg_filename: str, allow_unsafe: bool = True) -> None:
        """Overwrite the keys that a yaml file sets.

        Raises:
            AssertionError: the file is missing or of a later config version.
            KeyError: it sets a key that the config lacks.
            ValueError: a value has another type than the default.
        """
        if not PathManager.isfile(cfg_filename):
            raise AssertionError(f"config file {cfg_filename} does not exist")
        loaded = self.load_yaml_with_base(cfg_filename, allow_unsafe=allow_unsafe)
        version = loaded.get("VERSION", 1 if is_version_1(loaded) else LATEST_VERSION)
        if version not in range(LATEST_VERSION + 1):
            raise AssertionError(
                f"{cfg_filename} has config VERSION {version}, the latest is {LATEST_VERSION}"
            )
        if version < LATEST_VERSION:
            logging.getLogger(__name__).warning(
                "%s is a config of version %d: its keys are read by their present names",
                cfg_filename,
                version,
            )
            loaded = upgraded(loaded)
        check_keys(loaded, cfg_filename)
        self.merge_from_other_cfg(type(self)(loaded))

    def merge_from_other_cfg(self, cfg_other: _FvcoreNode) -> None:
        """Overwrite the keys that another config sets; see :meth:`merge_from_file`."""
        self._refuse(absent_key(cfg_other, self))
        super().merge_from_other_cfg(cfg_other)

    def merge_from_list(self, cfg_list: list) -> None:
        """Overwrite keys, given as key and value in turn.

        Raises:
            AssertionError: the config lacks a key.
            ValueError: a value has another type than the default.
        """
        for key in cfg_list[::2]:
            self._refuse(absent_key(_nested(key), self))
        super().merge_from_list(cfg_list)

    @classmethod
    def _decode_cfg_value(cls, value: Any) -> Any:
        try:
            return super()._decode_cfg_value(value)
        except (TypeError, RecursionError, MemoryError) as error:  # texts such as "{[1]}"
            raise ValueError(f"{value!r:.60} is no value of a config: {error}") from error

    @staticmethod
    def _refuse(key: str | None) -> None:
        if key is not None:
            raise KeyError(absent_message(f"The config key {key}"))

    def __getattr__(self, name: str) -> Any:
        if name not in self and any(key.rsplit(".", 1)[-1] == name for key in ABSENT):
            raise AttributeError(absent_message(f"The config key {name}"))
        return super().__getattr__(name)

    def dump(self, *args: Any, **kwargs: Any) -> str:
        """Return the config as yaml text, keys sorted and tuples as lists."""
        return super().dump(*args, **kwargs)


def _nested(key: str) -> dict:
    """Return nested dicts in which a dotted key leads to ``value``."""
    nested: Any = None
    for part in reversed(str(key).split(".")):
        nested = {part: nested}
    return nested


def _beside(filename: str, base: str) -> str:
    """Return the path of a base file, which may be relative to ``filename`` or the home folder."""
    if filename.startswith(_REMOTE):
        return f"{filename.rsplit('/', 1)[0]}/{base}"
    try:
        return str(Path(filename).parent / Path(base).expanduser())
    except RuntimeError as error:
        raise FileNotFoundError(f"{filename}: {BASE_KEY} {base}: there is no such user") from error


def get_cfg() -> CfgNode:
    """Return a fresh copy of the default config."""
    from detectron2.config.defaults import DEFAULTS

    return CfgNode(DEFAULTS).clone()


global_cfg = CfgNode()


def set_global_cfg(cfg: CfgNode) -> None:
    """Let ``global_cfg`` hold the keys of ``cfg``."""
    global_cfg.clear()
    global_cfg.update(cfg)


def _is_config(value: Any) -> bool:
    """Whether this is a config node, or one of OmegaConf where that library is loaded."""
    if isinstance(value, _FvcoreNode):
        return True
    return any(
        f"{kind.__module__}.{kind.__name__}" == "omegaconf.dictconfig.DictConfig"
        for kind in type(value).__mro__
    )


def _called_with_config(args: tuple, kwargs: dict) -> bool:
    return (bool(args) and _is_config(args[0])) or _is_config(kwargs.get("cfg"))


def _translate(from_config: Callable, args: tuple, kwargs: dict) -> dict[str, Any]:
    """Call ``from_config``; arguments that it does not know overrule what it returns."""
    parameters = inspect.signature(from_config).parameters
    if next(iter(parameters), None) != "cfg":
        raise TypeError(f"the first argument of {from_config.__qualname__} must be named cfg")
    variadic = {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}
    takes_all = any(parameter.kind in variadic for parameter in parameters.values())
    known = {k: v for k, v in kwargs.items() if takes_all or k in parameters}
    rest = {k: v for k, v in kwargs.items() if k not in known}
    return {**from_config(*args, **known), **rest}


def _configurable_init(init: Callable) -> Callable:
    @functools.wraps(init)
    def wrapped(self: Any, *args: Any, **kwargs: Any) -> None:
        from_config = getattr(type(self), "from_config", None)
        if from_config is None:
            raise AttributeError(
                f"{type(self).__name__} is configurable: it needs a classmethod from_config"
            )
        if not inspect.ismethod(from_config):
            raise TypeError(f"{type(self).__name__}.from_config must be a classmethod")
        if _called_with_config(args, kwargs):
            init(self, **_translate(from_config, args, kwargs))
        else:
            init(self, *args, **kwargs)

    return wrapped


def _configurable_function(function: Callable, from_config: Callable) -> Callable:
    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if _called_with_config(args, kwargs):
            return function(**_translate(from_config, args, kwargs))
        return function(*args, **kwargs)

    wrapped.from_config = from_config
    return wrapped


def configurable(
    init_func: Callable | None = None, *, from_config: Callable | None = None
) -> Callable:
    """Let a constructor or a function be called with a config instead of its arguments.

    Write ``@configurable`` on an ``__init__`` whose class has a classmethod
    ``from_config(cls, cfg, ...)`` returning its arguments as a dict, or
    ``@configurable(from_config=function)`` on a function. Keyword arguments beside the config go
    to ``from_config`` where it knows them, else they replace what it returned.
    """
    if init_func is not None:
        if not (inspect.isfunction(init_func) and init_func.__name__ == "__init__"):
            raise AssertionError("@configurable without arguments belongs on an __init__")
        return _configurable_init(init_func)
    if from_config is None:
        return configurable
    if not inspect.isfunction(from_config):
        raise AssertionError("from_config must be a function")
    return functools.partial(_configurable_function, from_config=from_config)
