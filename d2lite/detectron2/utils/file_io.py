"""Files by path or by http(s) address."""

from iopath.common.file_io import HTTPURLHandler
from iopath.common.file_io import PathHandler as PathHandler
from iopath.common.file_io import PathManager as _PathManager

PathManager = _PathManager()
PathManager.register_handler(HTTPURLHandler())
