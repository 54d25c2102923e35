"""Files by path, by http(s) address, or by name in Detectron2's collection of weights."""

from pathlib import Path
from typing import IO, Any

from iopath.common.file_io import HTTPURLHandler, get_cache_dir
from iopath.common.file_io import PathHandler as PathHandler
from iopath.common.file_io import PathManager as _PathManager

_ORIGIN = "https://dl.fbaipublicfiles.com/detectron2/"


class Detectron2Handler(PathHandler):
    """Resolve ``detectron2://NAME`` to Detectron2's cached download of it.

    Nothing is fetched here. ``$FVCORE_CACHE`` moves the folder, as in Detectron2.
    """

    PREFIX = "detectron2://"

    def _get_supported_prefixes(self) -> list[str]:
        return [self.PREFIX]

    def _get_local_path(self, path: str, force: bool = False, **kwargs: Any) -> str:
        name = path.removeprefix(self.PREFIX)
        local = Path(get_cache_dir(), "detectron2", name)
        if not local.is_file():
            raise FileNotFoundError(
                f"d2lite fetches no weights: fetch {_ORIGIN}{name} and save it as {local}, or name "
                "your copy in MODEL.WEIGHTS"
            )
        return str(local)

    def _open(self, path: str, mode: str = "r", buffering: int = -1, **kwargs: Any) -> IO:
        return Path(self._get_local_path(path)).open(mode, buffering)


PathManager = _PathManager()
PathManager.register_handler(HTTPURLHandler())
PathManager.register_handler(Detectron2Handler())
