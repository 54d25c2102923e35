"""What the families of CatRank share: configs, vocabularies, data, evaluation and the engine.

Everything here stands on Detectron2, the real one or the small stand-in in ``d2lite/``.
"""

import warnings

# fvcore, which Detectron2 imports, compiles two of its losses as it is loaded; PyTorch warns of the
# compiler's end each time, and nobody who runs this project can do anything about it.
warnings.filterwarnings("ignore", r"`torch\.jit\.script` is deprecated", FutureWarning)

try:
    import detectron2  # noqa: F401
except ImportError as error:
    raise ImportError(
        "CatRank needs Detectron2: install it, or its small stand-in with "
        "`pip install ./d2lite` from the CatRank source folder."
    ) from error
