"""What the families of CatRank share: configs, vocabularies, data, evaluation and the engine.

Everything here stands on Detectron2, the real one or the small stand-in in ``d2lite/``.
"""

import warnings

from segcore.runtime.platform import provide_detectron2

# fvcore, which Detectron2 imports, compiles two of its losses as it is loaded; PyTorch warns of the
# compiler's end each time, and nobody who runs this project can do anything about it.
warnings.filterwarnings("ignore", r"`torch\.jit\.script` is deprecated", FutureWarning)

provide_detectron2()
