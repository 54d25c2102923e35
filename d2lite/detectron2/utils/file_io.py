"""Files by path or by http(s) address."""

from iopath.common.file_io import HTTPURLHandler, PathHandler
from iopath.common.file_io import PathManager as _PathManager

from detectron2._absent import absent

__all__ = ["PathHandler", "PathManager"]
__getattr__ = absent(__name__)

PathManager = _PathManager()
PathManager.register_handler(HTTPURLHandler())
