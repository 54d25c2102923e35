"""Generate the synthetic data set Scenes: images and videos with exact labels.

It is written to <root>/scenes-60, or scenes-1k with a vocabulary of over 1,000 classes; <root> is
$DETECTRON2_DATASETS or "datasets". The same command continues an interrupted run.
"""

from pathlib import Path

from segcore.scenes import CATALOGUES, Settings, VideoSettings, write_scenes, write_videos


def prepare(
    root: Path,
    *,
    catalogue: str,
    num_images: tuple[int, int],
    panoptic: bool,
    crops: bool,
    num_videos: tuple[int, int],
    num_frames: int,
    size: int,
    seed: int,
    workers: int,
) -> None:
    """Generate images, and videos where any are asked for; print a hash of each split.

    Args:
        root: of the data sets.
        catalogue: a key of ``CATALOGUES``.
        num_images: to train and to test on.
        panoptic: write segments and instances of the images too.
        crops: write crops of single objects with captions too.
        num_videos: to train and to test on.
        num_frames: of a video.
        size: pixels a side.
        seed: of everything.
        workers: processes.

    Raises:
        UserError: a file cannot be written.
    """
    chosen = CATALOGUES[catalogue]
    images = Settings(*num_images, size=size, seed=seed)
    videos = VideoSettings(*num_videos, num_frames=num_frames, size=size, seed=seed)
    hashes = write_scenes(root, chosen, images, panoptic=panoptic, crops=crops, workers=workers)
    print(f"{root / chosen.name}: SHA-256 of pixels and labels")
    for split, number in images.images.items():
        print(f"{split:5} {number:6} images  {hashes[split]}")
    if any(num_videos):
        hashes = write_videos(root, chosen, videos, workers=workers)
        for split, number in videos.videos.items():
            print(f"{split:5} {number:6} videos    {hashes[split]}")
