"""Frames that are decoded as they are asked for, label maps of frames, and their faults."""

import pickle
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segcore import videos
from segcore.errors import UserError
from segcore.videos import Frames, read_frame_labels

SIZE = (4, 6)


def save(path: Path, value: int, size: tuple[int, int] = SIZE) -> Path:
    pixels = np.full((*size, 3), value, dtype=np.uint8)
    pixels[..., 2] = 255
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve frames, in whose names numbers are not padded."""
    for frame in range(12):
        save(tmp_path / f"shot {frame}.png", frame)
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / ".hidden.png").write_bytes(b"no image")
    return tmp_path


def test_frames_in_the_order_of_their_numbers(folder: Path) -> None:
    frames = Frames.of_folder(folder)
    assert len(frames) == 12 and frames.size == SIZE
    assert [int(frame[0, 0, 0]) for frame in frames] == list(range(12))
    assert frames[-1].shape == (3, *SIZE) and frames[-1][2, 0, 0] == 255


def test_the_order_of_colours(folder: Path) -> None:
    assert Frames.of_folder(folder, image_format="BGR")[3][:, 0, 0].tolist() == [255, 3, 3]


def test_nothing_is_decoded_before_it_is_asked_for(folder: Path, monkeypatch) -> None:
    read, decoded = videos.read_image, []

    def count(path: str, *arguments: object) -> np.ndarray:
        decoded.append(Path(path).stem)
        return read(path, *arguments)

    monkeypatch.setattr(videos, "read_image", count)
    clip = Frames.of_folder(folder)[4:9:2]
    assert len(clip) == 3 and not decoded
    assert clip[1][0, 0, 0] == 6 and decoded == ["shot 6"]
    assert not Frames.of_folder(folder)[5:5]


def halve(image: np.ndarray, step: int) -> np.ndarray:
    return image[::step, ::step]


def test_frames_may_be_resized_and_sent_to_another_process(folder: Path) -> None:
    paths = Frames.of_folder(folder).paths
    frames = pickle.loads(pickle.dumps(Frames(paths, resize=partial(halve, step=2))))
    assert frames[7].shape == (3, 2, 3) and frames[7:][1][0, 0, 0] == 8
    assert frames.size == SIZE


def test_a_video_turned_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6  # turned by a quarter
    Image.new("RGB", SIZE[::-1]).save(tmp_path / "0.jpg", exif=exif)
    frames = Frames([tmp_path / "0.jpg"])
    assert frames.size == SIZE[::-1] and frames[0].shape == (3, *SIZE[::-1])


class TestFaults:
    def test_no_frames(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="a video has no frames"):
            Frames([])
        with pytest.raises(UserError, match="holds no image: a video needs at least one frame"):
            Frames.of_folder(tmp_path)

    def test_no_folder(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r"no folder of frames at .*nowhere: No such"):
            Frames.of_folder(tmp_path / "nowhere")

    def test_a_missing_frame(self, folder: Path) -> None:
        frames = Frames.of_folder(folder)
        (folder / "shot 5.png").unlink()
        assert frames[4] is not None
        with pytest.raises(UserError, match=r"no file at .*shot 5\.png"):
            frames[5]

    def test_a_damaged_frame(self, folder: Path) -> None:
        path = folder / "shot 5.png"
        path.write_bytes(path.read_bytes()[:40])
        with pytest.raises(UserError, match=r"cannot read .*shot 5\.png: it is damaged"):
            Frames.of_folder(folder)[5]

    def test_the_size_changes_midway(self, folder: Path) -> None:
        save(folder / "shot 5.png", 0, (6, 4))
        frames = Frames.of_folder(folder)
        with pytest.raises(
            UserError, match=r"shot 5\.png has \(height, width\) \(6, 4\), but its video has \(4, 6"
        ):
            frames[5]

    def test_behind_the_end(self, folder: Path) -> None:
        with pytest.raises(IndexError):
            Frames.of_folder(folder)[12]


@pytest.mark.parametrize(
    ("stored", "num_classes", "kind", "wanted"),
    [
        ([0, 1, 124, 254, 255], 124, np.uint8, [-1, 0, 123, -1, -1]),
        ([0, 1, 254, 255, 65535], 1120, np.uint16, [-1, 0, 253, 254, -1]),
        ([2, 255], 255, np.uint8, [1, 254]),
    ],
)
def test_labels_count_from_one(tmp_path: Path, stored, num_classes, kind, wanted) -> None:
    path = tmp_path / "labels.png"
    Image.fromarray(np.array([stored], dtype=kind)).save(path)
    labels = read_frame_labels(path, (1, len(stored)), num_classes, -1)
    assert labels.tolist() == [wanted] and labels.dtype == np.int64


def test_labels_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "labels.png"
    Image.fromarray(np.array([[1, 125]], dtype=np.uint8)).save(path)
    with pytest.raises(UserError, match=r"labels\.png holds the value 125, but .* 1 to 124"):
        read_frame_labels(path, (1, 2), 124, 255)
    with pytest.raises(UserError, match=r"labels\.png has \(height, width\) \(1, 2\), but its"):
        read_frame_labels(path, (2, 1), 124, 255)
