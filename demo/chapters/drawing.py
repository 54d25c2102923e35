"""The images that the other chapters are about."""

from steps import Step

from chapters import DRAWN

SOURCES = ("segcore/scenes/*.py", "datasets/prepare_scenes.py")

STEPS = [
    Step(
        name="draw",
        title="Draw images and videos",
        command=[
            "datasets/prepare_scenes.py",
            "--num-images",
            "1000",
            "300",
            "--panoptic",
            "--num-videos",
            "0",
            "20",
        ],
        sources=SOURCES,
        output=DRAWN / "scenes-60",
    ),
]
