"""Scenes: drawn, photograph-like images whose labels are exact.

An image shows a few objects, each a *shape* with a *colour* and a *texture*, on textured ground.
Some combinations never occur in training, so that open-vocabulary generalisation can be measured.

``catalogue``  the classes, and which of them training never sees
``draws``      random numbers that are the same on every machine
``plan``       what an image shows, and its caption
``shapes``     outlines and bodies
``textures``   colours, and patterns of two of them
``grounds``    what objects stand on
``render``     a plan turned into pixels and labels
``motion``     a plan that moves: a video
``files``      whole files, written by several processes
``coco``       segments and instances in COCO's formats
``writing``    the images of a data set on disk
``videos``     its videos
"""

from segcore.scenes.catalogue import CATALOGUES, SCENES_1K, SCENES_60, Catalogue, SceneClass
from segcore.scenes.motion import plan_video
from segcore.scenes.plan import Scene, SceneObject, caption, plan_scene
from segcore.scenes.render import Rendered, render
from segcore.scenes.videos import VideoSettings, write_videos
from segcore.scenes.writing import Settings, write_scenes

__all__ = [
    "CATALOGUES",
    "SCENES_1K",
    "SCENES_60",
    "Catalogue",
    "Rendered",
    "Scene",
    "SceneClass",
    "SceneObject",
    "Settings",
    "VideoSettings",
    "caption",
    "plan_scene",
    "plan_video",
    "render",
    "write_scenes",
    "write_videos",
]
