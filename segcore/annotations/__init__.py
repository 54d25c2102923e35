"""Validated readers of annotations in JSON files, one a format, for training, checks and scores.

``json_file``  a whole file, within bounds
``fields``     single values of an entry, each of its type
``instances``  objects of images, in COCO's format
``panoptic``   segments of images, in COCO's format
``tracks``     objects of videos, in YouTube-VIS's format

Each reader returns plain records. A wrong value raises one error message that names the file, the
entry (``annotations[3]``: counted from 0) and the key. Objects without an outline are left out; one
line of the log counts them. Ids of objects are not read: nothing here depends on them.
"""

from segcore.annotations.instances import AnnotatedImage, AnnotatedObject, read_instance_file
from segcore.annotations.json_file import read_annotations
from segcore.annotations.panoptic import PanopticEntry, SegmentEntry, read_panoptic_json
from segcore.annotations.tracks import AnnotatedTrack, AnnotatedVideo, read_track_file

__all__ = [
    "AnnotatedImage",
    "AnnotatedObject",
    "AnnotatedTrack",
    "AnnotatedVideo",
    "PanopticEntry",
    "SegmentEntry",
    "read_annotations",
    "read_instance_file",
    "read_panoptic_json",
    "read_track_file",
]
