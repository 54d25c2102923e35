"""The core that all model families of CatRank use, on Detectron2 or its stand-in ``d2lite``.

annotations    JSON annotations and panoptic PNGs: reading and checking
backbones      image encoders that families share
benchmarks     result tables, run manifests and the benchmark page
checkpoint     reading checkpoints without executing them, loading them strictly
config         Detectron2 configs: keys, reading, error messages
datasets       data sets: registration, preparation, checking
drawing        overlays, outlines, animations, HTML pages
engine         training and evaluation loops, distributed or not
evaluation     metrics and Detectron2 evaluators
images         reading and writing image and label files
inference      sliding windows, un-merged predictions, semantic output
mappers        dataset mappers and augmentations
rankseg        RankSeg: multi-label heads, class selection, rank-adaptive scores
runtime        files, locks, processes, signals
scenes         the synthetic data set
video_files    decoding and encoding video files
vocabulary     class names, synonyms and prompt templates of a model
vocabularies   the vocabularies that ship, as JSON

``errors``, ``outlines`` (masks as RLE and polygons) and ``videos`` (frames of a video) are modules.
"""

import warnings

from segcore.runtime.platform import provide_detectron2

# fvcore, which Detectron2 imports, compiles two losses with TorchScript when it is loaded. PyTorch
# warns each time that TorchScript is deprecated; users of this project cannot change that.
warnings.filterwarnings("ignore", r"`torch\.jit\.script` is deprecated", FutureWarning)

provide_detectron2()
