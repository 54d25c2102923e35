"""Scenes: drawn, photograph-like pictures whose labels are exact.

A picture shows a few objects, each a *shape* with a *colour* and a *texture*, on textured ground.
Some combinations never occur in training, so that open-vocabulary generalisation can be measured.

``catalogue``  the classes, and which of them training never sees
``draws``      random numbers that are the same on every machine
``plan``       what a picture shows, and its caption
``shapes``     outlines and bodies
``textures``   colours, and patterns of two of them
``grounds``    what objects stand on
``render``     a plan turned into pixels and labels
``writing``    a whole data set on disk
"""

from segcore.scenes.catalogue import CATALOGUES, SCENES_1K, SCENES_60, Catalogue, SceneClass
from segcore.scenes.plan import Scene, SceneObject, caption, plan_scene
from segcore.scenes.render import Picture, render
from segcore.scenes.writing import Settings, write_scenes

__all__ = [
    "CATALOGUES",
    "SCENES_1K",
    "SCENES_60",
    "Catalogue",
    "Picture",
    "Scene",
    "SceneClass",
    "SceneObject",
    "Settings",
    "caption",
    "plan_scene",
    "render",
    "write_scenes",
]
