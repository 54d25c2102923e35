"""Check a data set for errors before a model is trained on it.

``findings``  the kinds of findings, and which of them are errors
``pair``      one image with its label map
``objects``   segments and objects as label maps
``source``    a data set and its pairs
``survey``    all pairs of a data set, and the comparison of two data sets
``sample``    sample pairs, and the page that shows them
``report``    the whole check: printed and written
"""

from segcore.datasets.checking.findings import KINDS, Finding, has_errors
from segcore.datasets.checking.report import check
from segcore.datasets.checking.sample import write_check_page
from segcore.datasets.checking.source import Source
from segcore.datasets.checking.survey import Survey, find_shared_images, survey

__all__ = [
    "KINDS",
    "Finding",
    "Source",
    "Survey",
    "check",
    "find_shared_images",
    "has_errors",
    "survey",
    "write_check_page",
]
