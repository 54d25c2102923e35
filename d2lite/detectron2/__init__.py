"""A small stand-in for Detectron2: the part of its interface that CatRank uses.

Import paths, signatures, defaults, file formats and numbers are those of Detectron2 0.6. What is
left out raises one message that says to install Detectron2 itself.
"""

import sys

from detectron2._absent import Finder, absent

__version__ = "0.6+lite"

sys.meta_path.insert(0, Finder)
__getattr__ = absent(__name__)
