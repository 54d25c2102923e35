"""Plan videos: objects drift, turn and grow, occlude one another, enter and leave.

The middle of a video is the planned scene; from there the objects move forwards and backwards in
time. Light, ground and depth are constant, and every frame has its own noise.
"""

from dataclasses import dataclass, replace

from segcore.scenes.catalogue import Catalogue
from segcore.scenes.draws import Draws
from segcore.scenes.plan import Scene, SceneObject, plan_scene

FASTEST = 1.3  # sides of the image in a video, across and down
LARGEST_TURN = 1.2  # radians in a video
LARGEST_GROWTH = 0.7  # fraction of the radius in a video

_FIRST = 2**32  # index of the first video's scene, beyond those of any number of images


@dataclass(frozen=True)
class Motion:
    """The motion of an object over the whole video."""

    shift: tuple[float, float]  # in units of the image's side
    turn: float  # radians
    growth: float  # fraction of the radius

    def moved(self, entry: SceneObject, time: float) -> SceneObject:
        """Return the object at ``time``, -0.5 to 0.5; at 0 it is as planned."""
        scale = 1 + self.growth * time
        return replace(
            entry,
            centre=(entry.centre[0] + self.shift[0] * time, entry.centre[1] + self.shift[1] * time),
            radius=entry.radius * scale,
            angle=entry.angle + self.turn * time,
            texture_period=entry.texture_period * scale,
        )


def plan_video(
    catalogue: Catalogue, seed: int, split: str, index: int, num_frames: int
) -> tuple[Scene, ...]:
    """Return the frames of video ``index`` of ``split``, "train" (seen classes alone) or "test".

    All frames have the same objects in the same order; an object's index is its track.
    """
    scene = plan_scene(catalogue, seed, split, _FIRST + index)
    draws = scene.draws("motion")
    motions = [_plan_motion(draws) for _ in scene.objects]
    return tuple(
        replace(
            scene,
            frame=frame,
            objects=tuple(
                motion.moved(entry, (frame + 0.5) / num_frames - 0.5)
                for motion, entry in zip(motions, scene.objects, strict=True)
            ),
        )
        for frame in range(num_frames)
    )


def _plan_motion(draws: Draws) -> Motion:
    return Motion(
        shift=(draws.uniform(-FASTEST, FASTEST), draws.uniform(-FASTEST, FASTEST)),
        turn=draws.uniform(-LARGEST_TURN, LARGEST_TURN),
        growth=draws.uniform(-LARGEST_GROWTH, LARGEST_GROWTH),
    )
