"""What is wrong with a data set, found before a model is trained on it.

``findings``  the kinds of faults, and which of them stop a training run or spoil it
``pair``      one image with its label map
``objects``   segments and objects as label maps
``survey``    all pairs of a data set together, and two data sets beside each other
``sample``    which pairs to look at, and the page that shows them
"""

from segcore.datasets.checking.findings import KINDS, Finding, has_errors
from segcore.datasets.checking.sample import write_check_page
from segcore.datasets.checking.survey import Source, Survey, find_shared_images, survey

__all__ = [
    "KINDS",
    "Finding",
    "Source",
    "Survey",
    "find_shared_images",
    "has_errors",
    "survey",
    "write_check_page",
]
