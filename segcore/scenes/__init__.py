"""Scenes: synthetic, photograph-like images with exact labels.

An image contains a few objects, each a *shape* with a *colour* and a *texture*, on textured ground.
Some combinations never occur in training, so that open-vocabulary generalisation can be measured.

``catalogue``  the classes, and which of them are held out from training
``draws``      random numbers that are the same on every machine
``plan``       the content of an image, and its caption
``shapes``     outlines and bodies of objects
``textures``   colours, and patterns of two of them
``grounds``    textures of the ground
``render``     renders a plan as pixels and labels
``motion``     plans of videos
``files``      writes missing files, in several processes
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
