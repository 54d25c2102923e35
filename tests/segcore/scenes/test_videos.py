"""Scenes' videos: VSPW's folders and YouTube-VIS's tracks, which agree in every pixel."""

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segcore.errors import UserError
from segcore.images import read_image, read_labels
from segcore.scenes import (
    SCENES_1K,
    SCENES_60,
    VideoSettings,
    files,
    overview,
    plan_video,
    render,
    write_videos,
)
from segcore.scenes.coco import segment_ids

SETTINGS = VideoSettings(num_train=2, num_test=4, num_frames=6, size=48)
CATALOGUES = {"scenes-60": SCENES_60, "scenes-1k": SCENES_1K}

# Of the settings above. A change here is another data set: add one to
# segcore.scenes.videos.GENERATOR, and measure anew what the documents report.
GOLDEN = {
    "train": "7d98ea1058b815dcb3a78aaf2602b12046b92815542fce22e82acb5f2e87c3c5",
    "test": "9ccd8d391952170b8274319f43c45abbe5935f3df8d15a87187e6cc7bc135540",
}

PLANS = [plan_video(SCENES_60, 0, "test", index, 16) for index in range(100)]


@pytest.fixture(scope="module", params=CATALOGUES)
def videos(request, tmp_path_factory) -> tuple[Path, dict, dict[str, str], tuple]:
    """The folder of rendered videos, the test videos' file of tracks, hashes and classes."""
    pytest.importorskip("pycocotools", reason="pycocotools writes and reads the masks")
    root = tmp_path_factory.mktemp("scenes")
    catalogue = CATALOGUES[request.param]
    hashes = write_videos(root, catalogue, SETTINGS)
    folder = root / catalogue.name / "videos"
    document = json.loads((folder / "test.json").read_text("utf-8"))
    return folder, document, hashes, catalogue.classes


class TestMotion:
    def test_ground_light_and_classes_stay(self):
        for scenes in PLANS[:20]:
            assert len({(scene.patches, scene.light) for scene in scenes}) == 1
            assert len({tuple(entry.class_id for entry in s.objects) for s in scenes}) == 1
            assert [scene.frame for scene in scenes] == list(range(16))

    def test_training_never_holds_an_unseen_class(self):
        plans = [plan_video(SCENES_60, 0, "train", index, 1) for index in range(400)]
        drawn = {entry.class_id for (scene,) in plans for entry in scene.objects}
        assert drawn == {entry.id for entry in SCENES_60.seen_objects}

    def test_objects_move_turn_and_change_their_size(self):
        for scenes in PLANS:
            for first, last in zip(scenes[0].objects, scenes[-1].objects, strict=True):
                assert first.centre != last.centre
                assert first.angle != last.angle
                assert first.radius != last.radius

    def test_motion_is_smooth(self):
        for scenes in PLANS:
            for before, after in itertools.pairwise(scenes):
                for one, other in zip(before.objects, after.objects, strict=True):
                    step = np.subtract(other.centre, one.centre)
                    assert np.abs(step).max() < 0.1
                    assert abs(other.angle - one.angle) < 0.1

    def test_more_frames_show_the_same_motion(self):
        few, many = (plan_video(SCENES_60, 0, "test", 5, number) for number in (5, 15))
        for scene, same in zip(few, many[1::3], strict=True):
            for one, other in zip(scene.objects, same.objects, strict=True):
                assert one.centre == pytest.approx(other.centre)

    def test_objects_enter_leave_and_occlude_one_another(self):
        grid = (np.arange(32, dtype=np.float32) + 0.5) / 32
        enter = leave = hidden = 0
        for scenes in PLANS[:30]:
            instances = np.stack([render(scene, 32).instances for scene in scenes[::3]])
            for number, entry in enumerate(scenes[0].objects, start=1):
                areas = (instances == number).sum(axis=(1, 2))
                enter += areas[0] == 0 < areas.max()
                leave += areas[-1] == 0 < areas.max()
                inside = entry.level(grid[None, :], grid[:, None]) <= 1
                hidden += 0 < areas[0] < inside.sum()
        assert min(enter, leave, hidden) >= 5

    def test_noise_changes_and_ground_does_not(self):
        scenes = PLANS[2][:2]
        first, second = (render(scene, 48) for scene in scenes)
        still = (first.instances == 0) & (second.instances == 0)
        change = first.image[still].astype(int) - second.image[still]
        assert change.any() and np.abs(change).mean() < 30


class TestFolders:
    """The files that a reader of VSPW needs."""

    def test_layout(self, videos):
        folder, *_ = videos
        for split, number in SETTINGS.videos.items():
            names = (folder / f"{split}.txt").read_text("utf-8").split()
            assert names == [f"{split}_{index:04d}" for index in range(number)]
            captions = (folder / f"{split}.tsv").read_text("utf-8").splitlines()
            assert [line.split("\t")[0] for line in captions] == ["video", *names]
            for name in names:
                for kind in ("origin", "mask", "panoptic"):
                    frames = sorted(path.name for path in (folder / "data" / name / kind).iterdir())
                    assert frames == [f"{frame:05d}.png" for frame in range(SETTINGS.num_frames)]

    def test_masks_are_the_rendered_labels_plus_one(self, videos):
        folder, _, _, classes = videos
        catalogue = CATALOGUES[folder.parent.name]
        for scene in plan_video(catalogue, 0, "test", 3, SETTINGS.num_frames):
            image = render(scene, SETTINGS.size)
            video = folder / "data" / "test_0003"
            mask = read_labels(video / "mask" / f"{scene.frame:05d}.png")
            assert (mask == image.labels + 1).all()
            assert (read_image(video / "origin" / f"{scene.frame:05d}.png") == image.image).all()
        mask = Image.open(folder / "data/test_0000/mask/00000.png")
        assert np.asarray(mask).dtype == (np.uint8 if len(classes) < 255 else np.uint16)


class TestTracks:
    """The files that a reader of YouTube-VIS needs."""

    def test_videos_name_their_frames(self, videos):
        folder, document, _, classes = videos
        assert [video["id"] for video in document["videos"]] == [1, 2, 3, 4]
        for video in document["videos"]:
            assert video["length"] == len(video["file_names"]) == SETTINGS.num_frames
            for name in video["file_names"]:
                image = read_image(folder / "data" / name)
                assert image.shape == (video["height"], video["width"], 3)
        assert {entry["id"] - 1: entry["name"] for entry in document["categories"]} == {
            entry.id: entry.name for entry in classes if entry.is_object
        }

    def test_tracks_are_the_segments_of_every_frame(self, videos):
        from pycocotools import mask as library

        folder, document, *_ = videos
        assert [track["id"] for track in document["annotations"]] == list(
            range(1, len(document["annotations"]) + 1)
        )
        for video in document["videos"]:
            tracks = [t for t in document["annotations"] if t["video_id"] == video["id"]]
            owners: dict[int, set[int]] = {track["id"]: set() for track in tracks}
            for frame, name in enumerate(video["file_names"]):
                origin = folder / "data" / name
                ids = segment_ids(read_image(origin.parents[1] / "panoptic" / origin.name))
                mask = read_labels(origin.parents[1] / "mask" / origin.name)
                covered = np.zeros(ids.shape, dtype=int)
                for track in tracks:
                    lengths = track["segmentations"][frame]
                    if lengths is None:
                        assert track["bboxes"][frame] is track["areas"][frame] is None
                        continue
                    inside = library.decode(lengths).astype(bool)
                    covered += inside
                    owners[track["id"]] |= set(ids[inside].tolist())
                    assert set(mask[inside]) == {track["category_id"]}
                    assert inside.sum() == track["areas"][frame] > 0
                    assert library.toBbox(lengths).tolist() == track["bboxes"][frame]
                assert (covered == (ids % 1000 > 0)).all()  # every object's pixel has one track
            segments = [segment for each in owners.values() for segment in each]
            assert all(len(each) == 1 for each in owners.values())  # one segment, all frames
            assert len(set(segments)) == len(segments)

    def test_a_frame_without_the_object_is_null(self, videos):
        _, document, *_ = videos
        seen = [[area is not None for area in t["areas"]] for t in document["annotations"]]
        assert all(map(any, seen))
        assert not all(map(all, seen))


class TestWriting:
    def test_golden_hashes(self, videos):
        if videos[0].parent.name == "scenes-60":
            assert videos[2] == GOLDEN
        record = json.loads((videos[0] / "scenes.json").read_text("utf-8"))
        assert record["sha256"] == videos[2]

    def test_two_processes_write_the_same_and_continue(self, videos, tmp_path):
        folder, _, hashes, _ = videos
        catalogue = CATALOGUES[folder.parent.name]
        fewer = VideoSettings(num_train=2, num_test=1, num_frames=6, size=48)
        write_videos(tmp_path, catalogue, fewer, workers=2)
        ours = tmp_path / catalogue.name / "videos"
        damaged = ours / "data/train_0001/panoptic/00003.png"
        damaged.write_bytes(damaged.read_bytes()[:50])
        (ours / "data/train_0000/mask/00002.png").unlink()
        (ours / "data/train_0000/mask/.part-7.png").write_bytes(b"half")
        assert write_videos(tmp_path, catalogue, SETTINGS, workers=2) == hashes
        theirs = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.*")}
        assert theirs == {path.relative_to(ours): path.read_bytes() for path in ours.rglob("*.*")}

    def test_existing_frames_are_not_rendered_again(self, videos, monkeypatch):
        monkeypatch.setattr(files, "render", None)
        folder, _, hashes, _ = videos
        assert write_videos(folder.parents[1], CATALOGUES[folder.parent.name], SETTINGS) == hashes

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"num_frames": 7}, "holds videos of frames 6, not 7"),
            ({"num_test": 3}, "4 test videos, more than 3"),
        ],
    )
    def test_settings_are_not_mixed(self, videos, settings, message):
        root = videos[0].parents[1]
        changed = {"num_train": 2, "num_test": 4, "num_frames": 6, "size": 48} | settings
        with pytest.raises(UserError, match=message):
            write_videos(root, CATALOGUES[videos[0].parent.name], VideoSettings(**changed))

    @pytest.mark.parametrize(
        ("settings", "message"),
        [({"num_frames": 1}, "--num-frames 1"), ({"num_test": -1}, "--num-videos")],
    )
    def test_impossible_settings_are_reported(self, settings, message):
        with pytest.raises(UserError, match=message):
            VideoSettings(**{"num_train": 1, "num_test": 1, **settings})


class TestOverview:
    def test_counts_and_sheet(self, videos):
        text, sheet = overview.describe_videos(videos[0])
        assert text.startswith("4 videos of 6 frames, ")
        assert sheet.size == (8 * 48, 2 * 4 * 48)

    def test_counts_of_tracks(self):
        areas = [[1, 1, 1], [None, 1, None], [1, None, 1]]
        document = {"videos": [{"length": 3}], "annotations": [{"areas": a} for a in areas]}
        assert overview.summarize_videos(document).splitlines() == [
            "1 videos of 3 frames, 3 tracks",
            "   33.3% are visible in all frames",
            "   33.3% enter: not visible in the first frame",
            "   33.3% leave: not visible in the last frame",
            "   33.3% are hidden in between",
        ]


def test_the_script_writes_everything(repository, tmp_path):
    pytest.importorskip("pycocotools", reason="pycocotools writes the masks")
    script = repository / "datasets/prepare_scenes.py"
    options = "--catalogue scenes-1k --num-images 1 1 --panoptic --num-videos 1 1 --num-frames 2"
    result = subprocess.run(
        [sys.executable, script, *options.split(), "--size", "32", "--root", tmp_path],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(repository), *sys.path])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    record = json.loads((tmp_path / "scenes-1k/videos/scenes.json").read_text("utf-8"))
    assert all(digest in result.stdout for digest in record["sha256"].values())
    assert (tmp_path / "scenes-1k/demo/panoptic.json").is_file()
