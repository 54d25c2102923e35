"""The synthetic images and videos of the other chapters."""

from steps import Step

from chapters import DATASETS

IMAGES = 300  # of the test set
VIDEOS = 20

STEPS = [
    Step(
        name="datasets",
        title="Generate synthetic images and videos",
        command=[
            "datasets/prepare_scenes.py",
            *("--num-images", "1000", str(IMAGES), "--panoptic", "--num-videos", "0", str(VIDEOS)),
        ],
        sources=("segcore/scenes/*.py", "datasets/prepare_scenes.py"),
        output=DATASETS / "scenes-60",
        result=lambda folder: f"{IMAGES:,} test images, {VIDEOS} test videos",
    ),
]
