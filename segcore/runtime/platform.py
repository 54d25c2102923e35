"""Where ``import detectron2`` finds Detectron2: the installed one, else the stand-in of ours.

The stand-in, ``d2lite/``, travels inside the wheel below a name of ours, never as a top-level
``detectron2``, which would overwrite an installed Detectron2. Its folder is put at the end of the
search path, so that whatever else is called ``detectron2`` wins, and only where nothing is.
"""

import sys
from importlib.util import find_spec
from pathlib import Path

PACKAGE = "detectron2"
# Folders that may hold the stand-in: of an installed wheel, and of a source folder.
STAND_IN_FOLDERS = (
    Path(__file__).resolve().parents[1] / "_stand_in",
    Path(__file__).resolve().parents[2] / "d2lite",
)


def provide_detectron2() -> None:
    """Make ``import detectron2`` work; nothing is imported, and nothing changes where it does.

    Processes started by ``multiprocessing`` inherit the search path.

    Raises:
        ImportError: there is neither Detectron2 nor the stand-in.
    """
    if PACKAGE in sys.modules:
        return
    spec = find_spec(PACKAGE)
    # A folder of that name, such as a clone beside a script, counts for a package without a file;
    # a package further down the search path wins over it.
    if spec is not None and spec.origin is not None:
        return
    for folder in STAND_IN_FOLDERS:
        if (folder / PACKAGE / "__init__.py").is_file():
            sys.path.append(str(folder))
            return
    raise ImportError(
        "CatRank needs Detectron2, and neither it nor the stand-in that comes with CatRank is "
        "here: `pip install ./d2lite` in CatRank's source folder installs the stand-in (Detectron2 "
        "itself: https://detectron2.readthedocs.io/tutorials/install.html)",
        name=PACKAGE,
    )
