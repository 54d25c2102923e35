"""The scripts for VSPW and YouTube-VIS, on releases of two small videos."""

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from downloads import load
from PIL import Image

from segcore.errors import UserError
from segcore.images import read_image, read_labels
from segcore.scenes.coco import encode_mask


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path)


class TestVSPW:
    @pytest.fixture
    def module(self) -> ModuleType:
        return load("vspw")

    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        """The full release: a video of two frames, and one of a single frame without labels."""
        labels = np.zeros((960, 501))
        labels[480:] = 124
        for frame in range(2):
            save(tmp_path / f"VSPW/data/walk/origin/{frame:08d}.jpg", np.full((960, 501, 3), 77))
            save(tmp_path / f"VSPW/data/walk/mask/{frame:08d}.png", labels)
        save(tmp_path / "VSPW/data/run/origin/1.jpg", np.full((480, 600, 3), 30))
        (tmp_path / "VSPW/val.txt").write_text("walk")
        (tmp_path / "VSPW/test.txt").write_text("run\n")
        return tmp_path

    def test_the_full_release(self, module: ModuleType, root: Path, capsys) -> None:
        module.prepare(root, workers=1)
        frame = read_image(root / "VSPW_480p/data/walk/origin/00000001.jpg")
        assert frame.shape == (480, 250, 3) and abs(int(frame.mean()) - 77) <= 1
        labels = read_labels(root / "VSPW_480p/data/walk/mask/00000001.png")
        assert labels.shape == (480, 250)
        assert (labels[:240] == 0).all() and (labels[240:] == 124).all()
        assert read_image(root / "VSPW_480p/data/run/origin/1.jpg").shape == (480, 600, 3)
        assert (root / "VSPW_480p/val.txt").read_text() == "walk\n"
        printed = capsys.readouterr()
        assert f"vspw_val: 1 videos, 2 frames in {root / 'VSPW_480p'}" in printed.out
        assert "vspw_test: 1 videos, 1 frames" in printed.out and "vspw_train" not in printed.out
        assert "vspw_val: the benchmark has 343 videos with 24502 frames" in printed.err

    def test_what_is_there_is_kept(self, module: ModuleType, root: Path, repository: Path) -> None:
        module.prepare(root, workers=1)
        there = root / "VSPW_480p/data/walk"
        (there / "mask/00000000.png").unlink()
        before = (there / "origin/00000000.jpg").stat().st_mtime_ns
        script = [sys.executable, repository / "datasets/prepare_vspw.py"]
        subprocess.run([*script, "--root", root, "--workers", "2"], check=True, cwd=repository)
        assert (there / "mask/00000000.png").is_file()
        assert (there / "origin/00000000.jpg").stat().st_mtime_ns == before

    def test_the_small_release_is_only_checked(
        self, module: ModuleType, root: Path, capsys
    ) -> None:
        (root / "VSPW").rename(root / "VSPW_480p")
        module.prepare(root, workers=1)
        assert "vspw_val: 1 videos, 2 frames" in capsys.readouterr().out
        assert not (root / "VSPW").exists()

    def test_values_that_are_no_labels(self, module: ModuleType, root: Path) -> None:
        (root / "VSPW").rename(root / "VSPW_480p")
        save(root / "VSPW_480p/data/walk/mask/00000001.png", np.full((960, 501), 200))
        with pytest.raises(UserError, match=r"00000001\.png holds the value 200, but .* 1 to 124"):
            module.prepare(root, workers=1)

    def test_a_frame_of_another_size(self, module: ModuleType, root: Path) -> None:
        save(root / "VSPW/data/walk/origin/00000001.jpg", np.zeros((480, 480, 3)))
        with pytest.raises(UserError, match=r"\(480, 480\), but its video has \(480, 250\)"):
            module.prepare(root, workers=1)

    def test_a_video_that_is_missing(self, module: ModuleType, root: Path) -> None:
        (root / "VSPW/val.txt").write_text("walk\nfly\n")
        with pytest.raises(UserError, match=r"there is no folder .*fly.origin: unpack"):
            module.prepare(root, workers=1)

    def test_nothing_there(self, module: ModuleType, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r"there is no .*VSPW_480p.val\.txt: unpack"):
            module.prepare(tmp_path, workers=1)


class TestYouTubeVIS:
    @pytest.fixture
    def module(self) -> ModuleType:
        return load("youtubevis")

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        """The archive of 2021's training videos: one of two frames, with a track."""
        folder = tmp_path / "ytvis_2021/train"
        names = ["a1/00000.jpg", "a1/00005.jpg"]
        for name in names:
            save(folder / "JPEGImages" / name, np.zeros((8, 12, 3)))
        video = {"id": 1, "height": 8, "width": 12, "length": 2, "file_names": names}
        outline = encode_mask(np.eye(8, 12) > 0)
        track = {"id": 1, "video_id": 1, "category_id": 40, "segmentations": [None, outline]}
        content = {"videos": [video], "annotations": [track]}
        (folder / "instances.json").write_text(json.dumps(content))
        return folder

    def test_a_json_file_is_copied_to_its_path(self, module, folder: Path, capsys) -> None:
        module.prepare(folder.parents[1], workers=1)
        track_json = folder.parent / "train.json"
        assert track_json.read_bytes() == (folder / "instances.json").read_bytes()
        printed = capsys.readouterr()
        assert f"ytvis_2021_train: 1 videos, 2 frames, 1 tracks in {track_json}" in printed.out
        assert "ytvis_2021_train: the benchmark has 2985 videos" in printed.err

    def test_a_frame_is_missing(self, module, folder: Path) -> None:
        (folder / "JPEGImages/a1/00005.jpg").unlink()
        with pytest.raises(UserError, match=r"no file at .*00005\.jpg"):
            module.prepare(folder.parents[1], workers=1)

    def test_a_frame_of_another_size(self, module, folder: Path) -> None:
        save(folder / "JPEGImages/a1/00005.jpg", np.zeros((12, 8, 3)))
        with pytest.raises(UserError, match=r"00005\.jpg has .* \(12, 8\), but its video has"):
            module.prepare(folder.parents[1], workers=1)

    def test_an_outline_that_is_damaged(self, module, folder: Path) -> None:
        path = folder / "instances.json"
        content = json.loads(path.read_text())
        content["annotations"][0]["segmentations"][1]["counts"] = "1"
        path.write_text(json.dumps(content))
        with pytest.raises(UserError, match=r"'segmentations'\[1\]: the RLE is damaged"):
            module.prepare(folder.parents[1], workers=1)

    def test_nothing_there(self, module, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r"there is no .*train\.json: unpack the download"):
            module.prepare(tmp_path, workers=1)
