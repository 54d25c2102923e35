"""Import exports of annotation tools: they become images, label maps and a description of them.

``reading``       find the format of an export and read it
``coco``, ``labelme``, ``cvat``, ``label_studio``, ``masks``, ``videos``  one format each
``export``        what the readers return
``shapes``        shapes of annotation tools as outlines
``xml_tree``      untrusted XML
``plan``          how it is imported
``painting``      shapes and masks as label maps and objects
``splitting``     training and validation
``writing``       the whole import
``image_sets``, ``track_sets``, ``describing``  parts of the result

Exports are untrusted: file names cannot lead out of their folders, and sizes are limited.
"""

from catrank.imports.plan import Plan
from catrank.imports.reading import FORMATS, read_export
from catrank.imports.writing import import_exports

__all__ = ["FORMATS", "Plan", "import_exports", "read_export"]
