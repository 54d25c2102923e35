"""Read and write videos frame by frame; a damaged video is one error message."""

import errno
import os
import struct
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segcore.errors import UserError
from segcore.video_files import BrokenVideo, ForwardFrames, open_video
from segcore.video_files.writing import VideoWriter, check_output_file

av = pytest.importorskip("av", reason="videos are read by PyAV: pip install av")


def images(count: int = 8, size: tuple[int, int] = (64, 64)) -> list[np.ndarray]:
    """Noise of one colour on grey that gets lighter."""
    noise = np.random.default_rng(0).integers(0, 20, (*size, 3))
    return [(noise + 25 * number).astype(np.uint8) for number in range(count)]


def save(path: Path, frames: list[np.ndarray], rate: Fraction = Fraction(10)) -> Path:
    with VideoWriter(path, rate) as writer:
        for frame in frames:
            writer.write(frame)
    return path


def cut(path: Path, share: float = 0.6) -> Path:
    """The beginning of a file."""
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    return path


def read_until_broken(path: Path) -> tuple[int, str]:
    """Frames that were read, and what was said about the next one."""
    count = 0
    with pytest.raises(BrokenVideo) as caught:
        for _ in open_video(path).frames():
            count += 1
    return count, str(caught.value)


def faststart(path: Path, frames: list[np.ndarray]) -> Path:
    """An MP4 file that lists its frames at its beginning."""
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov", ".avi"])
def test_frames_come_back(tmp_path, suffix):
    frames = images()
    rate = Fraction(30000, 1001)
    video = open_video(save(tmp_path / "new" / f"clip{suffix}", frames, rate))
    assert abs(video.rate - rate) < 0.01 and not video.has_sound
    assert video.length == (None if suffix == ".mkv" else 8)
    for _ in range(2):  # again and again
        back = list(video.frames())
        assert len(back) == 8 and back[0].shape == (64, 64, 3) and back[0].dtype == np.uint8
        means = [
            frame.mean() - original.mean() for frame, original in zip(back, frames, strict=True)
        ]
        assert np.abs(means).max() < 4
    assert [path.name for path in (tmp_path / "new").iterdir()] == [f"clip{suffix}"]


def test_odd_sizes_get_one_row_and_column_more(tmp_path):
    frames = images(2, (33, 47))
    back = next(open_video(save(tmp_path / "a.mp4", frames)).frames())
    assert back.shape == (34, 48, 3)


@pytest.mark.skipif(
    not hasattr(av.video.stream.VideoStream, "set_display_rotation"),
    reason="this PyAV writes no rotation: pip install 'av>=18'",
)
def test_a_video_that_was_filmed_upright_is_read_upright(tmp_path):
    image = np.zeros((64, 96, 3), dtype=np.uint8)
    image[:32, :32] = 255  # left upper corner
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        stream.set_display_rotation(90)  # counterclockwise: it becomes the left lower corner
        container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    frame = next(open_video(tmp_path / "a.mp4").frames())
    assert frame.shape == (96, 64, 3)
    assert frame[70:, :26].min() > 200 and frame[:60].max() < 50


def test_a_folder_is_read_in_the_order_of_its_numbers(tmp_path):
    for number, frame in enumerate(images(8)):
        Image.fromarray(frame).save(tmp_path / f"frame{number + 3}.png")  # 3 to 10
    (tmp_path / "notes.txt").touch()
    video = open_video(tmp_path)
    assert video.length == 8 and video.rate == 25
    assert all((a == b).all() for a, b in zip(video.frames(), images(8), strict=True))


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
@pytest.mark.parametrize(("rate", "seconds_of_sound"), [(1, 10), (25, 3), (25, 0.1)])
def test_whole_files_are_not_taken_for_cut_ones(tmp_path, suffix, rate, seconds_of_sound):
    path = tmp_path / f"a{suffix}"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=rate)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        sound = container.add_stream("aac", rate=44100)
        for frame in images(10):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
        silence = np.zeros((1, int(44100 * seconds_of_sound)), np.float32)
        samples = av.AudioFrame.from_ndarray(silence, "fltp", "mono")
        samples.sample_rate = 44100
        container.mux(sound.encode(samples))
        container.mux(sound.encode())
    video = open_video(path)
    assert video.has_sound and len(list(video.frames())) == 10


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
def test_what_is_before_the_cut_is_read(tmp_path, suffix):
    frames = [np.random.default_rng(n).integers(0, 256, (64, 64, 3), np.uint8) for n in range(30)]
    path = tmp_path / f"a{suffix}"
    cut((faststart if suffix == ".mp4" else save)(path, frames))
    count, said = read_until_broken(path)
    assert 5 < count < 30
    assert str(path) in said and f"after {count} frames" in said


def test_a_size_that_changes(tmp_path):
    parts = [save_stream(tmp_path / f"{side}.ts", side) for side in (64, 96)]
    path = tmp_path / "both.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    count, said = read_until_broken(path)
    assert count in (3, 4)  # the decoder gives up the frame that waits when the size changes
    assert said.startswith(
        f"{path}: frame {count + 1} has 96 x 64 pixels, but those before have 64 x"
    )


def save_stream(path: Path, width: int) -> Path:
    """Four frames in a container that can be continued by another one."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg2video", rate=25)
        stream.width, stream.height, stream.pix_fmt = width, 64, "yuv420p"
        for frame in images(4, (64, width)):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


def test_a_damaged_image_ends_a_folder(tmp_path):
    for number, frame in enumerate(images(3)):
        Image.fromarray(frame).save(tmp_path / f"{number}.png")
    cut(tmp_path / "2.png")
    count, said = read_until_broken(tmp_path)
    assert count == 2 and "2.png" in said


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("text.mp4", b"no video " * 100, "no video"),
        ("empty.mp4", b"", "no video"),
        ("playlist.m3u8", b"#EXTM3U\n#EXTINF:2,\nother.mp4\n#EXT-X-ENDLIST\n", "no video"),
        ("absent.mp4", None, "No such file"),
    ],
)
def test_what_is_no_video(tmp_path, name, content, said):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=said) as caught:
        open_video(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)


def test_a_file_that_may_not_be_read(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    path = save(tmp_path / "a.mp4", images(2))
    monkeypatch.setattr(Path, "open", refuse)  # root may read everything
    with pytest.raises(UserError, match="Permission denied"):
        open_video(path)


def test_zero_frames(tmp_path):
    with av.open(str(tmp_path / "sound.mkv"), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), "fltp", "mono")
        sound.sample_rate = 44100
        container.mux(stream.encode(sound))
        container.mux(stream.encode())
    with pytest.raises(UserError, match="no frames"):
        open_video(tmp_path / "sound.mkv")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match="frame"):
        open_video(tmp_path / "folder")


def test_huge_frames_are_refused_before_they_are_decoded(tmp_path):
    path = save(tmp_path / "a.mp4", images(2))
    with pytest.raises(UserError, match="64 x 64 pixels, more than the limit"):
        open_video(path, max_pixels=64 * 64 - 1)
    growing = tmp_path / "growing.ts"
    growing.write_bytes(
        b"".join(save_stream(tmp_path / f"{w}.ts", w).read_bytes() for w in (64, 960))
    )
    with pytest.raises(BrokenVideo):
        for frame in open_video(growing, max_pixels=64 * 64).frames():
            assert frame.shape == (64, 64, 3)


def test_without_av(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    (tmp_path / "a.mp4").touch()
    with pytest.raises(UserError, match=r"catrank\[video\]"):
        open_video(tmp_path / "a.mp4")


def test_a_name_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write"):
        save(tmp_path / "file" / "a.mp4", images(1))


def test_what_was_written_before_an_error_stays(tmp_path):
    def write_two_and_fail() -> None:
        with VideoWriter(tmp_path / "a.mp4", Fraction(10)) as writer:
            for frame in images(2):
                writer.write(frame)
            raise BrokenVideo("the rest is gone")

    with pytest.raises(BrokenVideo):
        write_two_and_fail()
    assert len(list(open_video(tmp_path / "a.mp4").frames())) == 2


def test_the_last_frames_can_be_asked_for_again():
    read = []

    def frames():
        for number in range(6):
            read.append(number)
            yield np.full((2, 2, 3), number, dtype=np.uint8)

    kept = ForwardFrames(frames(), length=6, keep=3)
    assert len(kept) == 6 and read == []
    assert kept[2].max() == 2 and read == [0, 1, 2]
    assert kept[0].max() == 0 and kept[-3].max() == 3 and kept[1].max() == 1
    with pytest.raises(IndexError, match="frame 0 is gone"):
        kept[0]
    with pytest.raises(IndexError):
        kept[6]
    assert kept[5].max() == 5 and read == [*range(6)]


QUARTERS = np.repeat(np.repeat(np.array([[40, 90], [140, 190]], np.uint8), 32, 0), 48, 1)
# a, b, c, d of the display matrix (x becomes a x + c y, y becomes b x + d y): the quarters shown.
ORIENTATIONS = {
    (1, 0, 0, 1): [40, 90, 140, 190],
    (-1, 0, 0, 1): [90, 40, 190, 140],
    (1, 0, 0, -1): [140, 190, 40, 90],
    (-1, 0, 0, -1): [190, 140, 90, 40],
    (0, 1, 1, 0): [40, 140, 90, 190],
    (0, 1, -1, 0): [140, 40, 190, 90],
    (0, -1, 1, 0): [90, 190, 40, 140],
    (0, -1, -1, 0): [190, 90, 140, 40],
}


def with_matrix(path: Path, matrix: tuple[float, float, float, float]) -> Path:
    """A video of four quarters whose display matrix is replaced in the file."""
    save(path, [np.dstack([QUARTERS] * 3)] * 2)
    one = 1 << 16
    content = path.read_bytes()
    unit = struct.pack(">9i", one, 0, 0, 0, one, 0, 0, 0, 1 << 30)
    at = content.index(b"tkhd")
    at = content.index(unit, at)
    a, b, c, d = (round(value * one) for value in matrix)
    changed = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(content[:at] + changed + content[at + len(unit) :])
    return path


def shown(frame: np.ndarray) -> list[int]:
    """The grey of the four quarters, rounded to those that there are."""
    height, width = frame.shape[:2]
    rows, columns = (height // 4, 3 * height // 4), (width // 4, 3 * width // 4)
    return [round((int(frame[y, x, 0]) + 10) / 50) * 50 - 10 for y in rows for x in columns]


@pytest.mark.parametrize("matrix", ORIENTATIONS)
def test_all_eight_orientations(tmp_path, matrix):
    path = with_matrix(tmp_path / "a.mp4", matrix)
    (frame, _) = open_video(path).frames()
    assert frame.shape == ((96, 64, 3) if matrix[0] == 0 else (64, 96, 3))
    assert shown(frame) == ORIENTATIONS[matrix]


@pytest.mark.parametrize("scale", [0.5, 2, 1.37])
def test_the_scale_of_a_display_matrix_is_not_applied(tmp_path, scale):
    matrix = tuple(scale * value for value in (0.05, 1, -1, 0.05))
    (frame, _) = open_video(with_matrix(tmp_path / "a.mp4", matrix)).frames()
    assert frame.shape == (96, 64, 3) and shown(frame) == ORIENTATIONS[0, 1, -1, 0]


def test_a_display_matrix_of_zeros(tmp_path):
    (frame, _) = open_video(with_matrix(tmp_path / "a.mp4", (0, 0, 0, 0))).frames()
    assert shown(frame) == ORIENTATIONS[1, 0, 0, 1]


def varying(path: Path, times: list[int]) -> Path:
    """A video whose header says 30 frames a second, with frames at these milliseconds."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=30)
        stream.width = stream.height = 64
        stream.pix_fmt, stream.time_base = "yuv420p", Fraction(1, 1000)
        stream.codec_context.time_base = Fraction(1, 1000)
        for time, image in zip(times, images(len(times)), strict=True):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_a_varying_rate_is_that_of_the_timestamps(tmp_path, suffix):
    video = open_video(varying(tmp_path / f"a{suffix}", [0, 40, 300, 350, 700, 740, 990, 1000]))
    assert 6.5 < video.rate < 8.5 and len(list(video.frames())) == 8


def test_a_constant_rate_is_that_of_the_header(tmp_path):
    """Matroska rounds timestamps to milliseconds."""
    rate = Fraction(30000, 1001)
    assert abs(open_video(save(tmp_path / "a.mkv", images(40), rate)).rate - rate) < 0.01


def test_one_frame_has_a_rate(tmp_path):
    video = open_video(varying(tmp_path / "a.mkv", [0]))
    assert 0 < video.rate <= 1000 and len(list(video.frames())) == 1


def test_pixels_that_are_not_square(tmp_path):
    """Frames are as stored; what is written of them is shown in the same shape."""
    for suffix in (".mp4", ".mkv"):
        with VideoWriter(tmp_path / f"a{suffix}", Fraction(10), Fraction(16, 11)) as writer:
            writer.write(np.zeros((64, 48, 3), np.uint8))
        video = open_video(tmp_path / f"a{suffix}")
        assert video.pixel_aspect == Fraction(16, 11)
        assert next(iter(video.frames())).shape == (64, 48, 3)
    assert open_video(save(tmp_path / "b.mp4", images(2))).pixel_aspect == 1


def test_pixels_that_are_turned_change_their_shape(tmp_path):
    with VideoWriter(tmp_path / "a.mp4", Fraction(10), Fraction(4, 3)) as writer:
        writer.write(np.zeros((64, 48, 3), np.uint8))
    content, one = (tmp_path / "a.mp4").read_bytes(), 1 << 16
    unit = struct.pack(">9i", one, 0, 0, 0, one, 0, 0, 0, 1 << 30)
    at = content.index(unit, content.index(b"tkhd"))
    turned = struct.pack(">9i", 0, one, 0, -one, 0, 0, 0, 0, 1 << 30)
    (tmp_path / "a.mp4").write_bytes(content[:at] + turned + content[at + len(turned) :])
    assert open_video(tmp_path / "a.mp4").pixel_aspect == Fraction(3, 4)


def test_a_title_in_latin_1(tmp_path):
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        container.metadata["title"] = "Cafe XX"
        stream = container.add_stream("mpeg4", rate=25)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for image in images(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    content = (tmp_path / "a.mp4").read_bytes()
    (tmp_path / "a.mp4").write_bytes(content.replace(b"Cafe XX", b"Caf\xe9 XX"))
    assert len(list(open_video(tmp_path / "a.mp4").frames())) == 3


def test_an_unknown_codec(tmp_path):
    path = save(tmp_path / "a.mov", images(2))
    content = path.read_bytes()
    path.write_bytes(content.replace(b"avc1", b"zzzz").replace(b"mp4v", b"zzzz"))
    with pytest.raises(UserError, match="FFmpeg does not know how its frames are coded"):
        list(open_video(path).frames())


@pytest.mark.parametrize("name", ["x" * 250 + ".mp4", "x" * 260 + ".mkv"])
def test_long_names(tmp_path, name):
    """Up to what the system allows they are written, beyond it they are refused at once."""
    path = tmp_path / name
    if len(name) <= 255:
        check_output_file(path)
        assert len(list(open_video(save(path, images(2))).frames())) == 2
    else:
        for refuse in (check_output_file, lambda path: save(path, images(2))):
            with pytest.raises(UserError, match=r"cannot write .*too long"):
                refuse(path)
    assert [each.name for each in tmp_path.iterdir()] == [name] * (len(name) <= 255)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
def test_a_folder_that_may_not_be_written(tmp_path, suffix, monkeypatch):
    def refuse(*_, **__):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(os, "open", refuse)  # root may write everywhere
    for use in (check_output_file, lambda path: save(path, images(2))):
        with pytest.raises(UserError, match=r"cannot write .*Read-only"):
            use(tmp_path / f"a{suffix}")
    monkeypatch.undo()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("rate", [Fraction(1, 2), Fraction(30000, 1001), Fraction(240)])
def test_what_is_written_is_read(tmp_path, suffix, rate):
    frames = images(9, (50, 70))
    video = open_video(save(tmp_path / f"a{suffix}", frames, rate))
    read = list(video.frames())
    assert len(read) == 9 and read[0].shape == (50, 70, 3)
    assert abs(video.rate / rate - 1) < 0.001


def test_frames_that_avi_does_not_store(tmp_path):
    """Two of three are empty, which means that they repeat the one before: nothing is missing."""
    with av.open(str(tmp_path / "a.avi"), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for number, image in enumerate(images(8)):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = 3 * number, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    video = open_video(tmp_path / "a.avi")
    assert len(list(video.frames())) == 8 and 3.2 < video.rate < 3.5
