"""Data sets of videos: published names, records, pieces, and errors."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from detectron2.data import (
    DatasetCatalog,
    MetadataCatalog,
    build_detection_test_loader,
    get_detection_dataset_dicts,
)
from PIL import Image

from segcore.datasets import (
    data_root,
    register_track_dataset,
    register_video_semantic_dataset,
)
from segcore.datasets.checking import Source, has_errors, survey
from segcore.datasets.presence import shown_in_video
from segcore.datasets.tracks import read_track_records
from segcore.datasets.video_semantic import cut, read_videos
from segcore.errors import UserError
from segcore.outlines import decode_mask
from segcore.scenes import SCENES_60, VideoSettings, write_videos
from segcore.videos import read_frame_labels

SEMANTIC = {  # name: classes, ignore label, list of videos
    "vspw_train": (124, 255, "VSPW_480p/train.txt"),
    "vspw_val": (124, 255, "VSPW_480p/val.txt"),
    "vspw_test": (124, 255, "VSPW_480p/test.txt"),
    "scenes_60_video_train": (60, 65535, "scenes-60/videos/train.txt"),
    "scenes_1k_video_test": (1120, 65535, "scenes-1k/videos/test.txt"),
}
INSTANCE = {  # name: objects, file of tracks, folder
    "ytvis_2019_train": (40, "ytvis_2019/train.json", "ytvis_2019/train/JPEGImages"),
    "ytvis_2019_val": (40, "ytvis_2019/valid.json", "ytvis_2019/valid/JPEGImages"),
    "ytvis_2019_test": (40, "ytvis_2019/test.json", "ytvis_2019/test/JPEGImages"),
    "ytvis_2021_val": (40, "ytvis_2021/valid.json", "ytvis_2021/valid/JPEGImages"),
    "scenes_60_video_test_instance": (54, "scenes-60/videos/test.json", "scenes-60/videos/data"),
    "scenes_1k_video_train_instance": (
        1080,
        "scenes-1k/videos/train.json",
        "scenes-1k/videos/data",
    ),
}


@pytest.mark.parametrize("name", SEMANTIC)
def test_published_names_of_semantic_sets(name: str) -> None:
    classes, ignore_label, video_list = SEMANTIC[name]
    metadata = MetadataCatalog.get(name)
    assert metadata.evaluator_type == "video_semantic"
    assert len(metadata.stuff_classes) == len(metadata.stuff_colors) == classes
    assert metadata.ignore_label == ignore_label
    assert metadata.video_list == str(data_root() / video_list)
    assert metadata.image_root == str(data_root() / Path(video_list).parent / "data")


@pytest.mark.parametrize("name", INSTANCE)
def test_published_names_of_sets_with_tracks(name: str) -> None:
    objects, track_json, folder = INSTANCE[name]
    metadata = MetadataCatalog.get(name)
    assert metadata.evaluator_type == "ytvis"
    assert len(metadata.thing_classes) == len(metadata.thing_colors) == objects
    ids = metadata.thing_dataset_id_to_contiguous_id
    assert list(ids.items()) == [(number + 1, number) for number in range(objects)]
    assert metadata.json_file == str(data_root() / track_json)
    assert metadata.image_root == str(data_root() / folder)


def test_the_order_of_classes_differs_between_the_years() -> None:
    assert MetadataCatalog.get("ytvis_2019_train").thing_classes[:2] == ["person", "giant panda"]
    assert MetadataCatalog.get("ytvis_2021_train").thing_classes[:2] == ["airplane", "bear"]


@pytest.mark.parametrize("name", [*SEMANTIC, *INSTANCE])
def test_missing_data_sets(name: str) -> None:
    if Path(MetadataCatalog.get(name).image_root).is_dir():
        pytest.skip("this data set is there")
    with pytest.raises(UserError, match=rf"'{name}' .*: prepare it as datasets/README\.md says"):
        DatasetCatalog.get(name)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("scenes")
    write_videos(root, SCENES_60, VideoSettings(1, 2, num_frames=5, size=32))
    return root / "scenes-60" / "videos"


@pytest.fixture
def name(dataset_name: str) -> str:
    return dataset_name


def register_semantic(name: str, drawn: Path, **options: object) -> list[dict]:
    folders = (drawn / "data/<video>/origin", drawn / "data/<video>/mask")
    register_video_semantic_dataset(name, drawn / "test.txt", *folders, "scenes_60", **options)
    return DatasetCatalog.get(name)


def register_tracks(name: str, drawn: Path) -> list[dict]:
    paths = (drawn / "data", drawn / "test.json")
    register_track_dataset(name, *paths, "scenes_60", category_offset=1)
    return DatasetCatalog.get(name)


def test_whole_videos(drawn: Path, name: str) -> None:
    first, second = register_semantic(name, drawn)
    assert (first["video_id"], second["video_id"]) == ("test_0000", "test_0001")
    assert (first["height"], first["width"], first["length"], first["first_frame"]) == (
        32,
        32,
        5,
        0,
    )
    for key, folder in (("file_names", "origin"), ("sem_seg_file_names", "mask")):
        wanted = [str(drawn / f"data/test_0000/{folder}/{frame:05d}.png") for frame in range(5)]
        assert first[key] == wanted


def test_pieces_follow_each_other(drawn: Path, name: str) -> None:
    pieces = register_semantic(name, drawn, piece_frames=2)
    assert [piece["video_id"] for piece in pieces] == ["test_0000"] * 3 + ["test_0001"] * 3
    assert [piece["first_frame"] for piece in pieces[:3]] == [0, 2, 4]
    assert [piece["length"] for piece in pieces[:3]] == [2, 2, 1]
    whole = read_videos(
        name, drawn / "test.txt", f"{drawn}/data/<video>/origin", f"{drawn}/data/<video>/mask"
    )
    for key in ("file_names", "sem_seg_file_names"):
        assert [path for piece in pieces[:3] for path in piece[key]] == whole[0][key]


def test_a_video_of_the_length_of_a_piece() -> None:
    video = {"video_id": "a", "file_names": ["x"] * 20, "length": 20, "first_frame": 0}
    assert list(cut(video, 20)) == [video]


def test_tracks_agree_with_label_maps(drawn: Path, name: str) -> None:
    """Both layouts of a video have the same objects."""
    labels = read_videos(
        name, drawn / "test.txt", f"{drawn}/data/<video>/origin", f"{drawn}/data/<video>/mask"
    )
    records = register_tracks(name, drawn)
    assert [record["video_id"] for record in records] == [1, 2]
    for record, video in zip(records, labels, strict=True):
        assert record["file_names"] == video["file_names"] and record["length"] == 5
        assert len(record["frame_annotations"]) == 5 and any(record["frame_annotations"])
        for path, objects in zip(
            video["sem_seg_file_names"], record["frame_annotations"], strict=True
        ):
            shown = read_frame_labels(path, (32, 32), 60, 65535)
            for entry in objects:
                mask = decode_mask(entry["segmentation"], (32, 32), "it")
                assert (shown[mask] == entry["category_id"]).all() and mask.any()
                assert entry["area"] == mask.sum() and len(entry["bbox"]) == 4


def test_classes_of_a_video(drawn: Path, name: str) -> None:
    (record, _), (video, _) = (
        register_tracks(name, drawn),
        read_videos(
            "x", drawn / "test.txt", f"{drawn}/data/<video>/origin", f"{drawn}/data/<video>/mask"
        ),
    )
    every = shown_in_video(video, 60, 65535)
    assert every.dtype == np.int64 and len(every) >= 2
    assert shown_in_video(record, 54, None).tolist() == [id for id in every.tolist() if id < 54]
    with pytest.raises(UserError, match=r"video 1 has class .* but the model has 1"):
        shown_in_video(record, 1, None)
    del record["frame_annotations"]
    with pytest.raises(UserError, match="the classes of video 1 are unknown"):
        shown_in_video(record, 54, None)


def test_detectron2_reads_them(drawn: Path, name: str) -> None:
    register_tracks(name, drawn)
    assert len(get_detection_dataset_dicts([name], filter_empty=True)) == 2
    loader = build_detection_test_loader(
        dataset=DatasetCatalog.get(name), mapper=lambda record: record["length"]
    )
    assert list(loader) == [[5], [5]]


class TestTheCheck:
    def test_label_maps(self, drawn: Path, name: str) -> None:
        folders = (f"{drawn}/data/<video>/{kind}" for kind in ("origin", "mask"))
        register_video_semantic_dataset(name, drawn / "test.txt", *folders, "scenes_60")
        known = survey(Source.registered(name))
        assert not has_errors(known.findings) and known.num_images == 10
        counts = np.zeros(60, dtype=np.int64)
        for video in DatasetCatalog.get(name):
            for path in video["sem_seg_file_names"]:
                shown = read_frame_labels(path, (32, 32), 60, 65535)
                counts += np.bincount(shown[shown < 60], minlength=60)
        np.testing.assert_array_equal(known.class_pixels, counts)

    def test_tracks(self, drawn: Path, name: str) -> None:
        register_tracks(name, drawn)
        known = survey(Source.registered(name))
        assert not has_errors(known.findings) and known.num_images == 10
        assert known.class_pixels.any()

    def test_values_that_are_no_class(self, drawn: Path, name: str) -> None:
        folders = (f"{drawn}/data/<video>/{kind}" for kind in ("origin", "mask"))
        classes = [f"class {number}" for number in range(3)]
        register_video_semantic_dataset(name, drawn / "test.txt", *folders, classes)
        known = survey(Source.registered(name))
        assert "values" in {finding.kind for finding in known.findings if finding.is_error}

    def test_a_missing_list(self, tmp_path: Path, name: str) -> None:
        register_video_semantic_dataset(name, tmp_path / "a.txt", f"{tmp_path}/<video>", None, "a")
        known = survey(Source.registered(name))
        assert [finding.kind for finding in known.findings] == ["objects"]


class TestFaultsOfFolders:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        """One video of two frames."""
        for kind in ("origin", "mask"):
            folder = tmp_path / "data" / "cat" / kind
            folder.mkdir(parents=True)
            for frame in range(2):
                Image.new("L", (4, 4)).save(folder / f"{frame}.png")
        (tmp_path / "val.txt").write_text("cat")  # without an end of its last line
        return tmp_path

    @staticmethod
    def read(folder: Path, labels: bool = True) -> list[dict]:
        paths = [f"{folder}/data/<video>/{kind}" for kind in ("origin", "mask")]
        return read_videos("pets", folder / "val.txt", paths[0], paths[1] if labels else None)

    def test_without_a_fault(self, folder: Path) -> None:
        (video,) = self.read(folder)
        assert (video["video_id"], video["length"]) == ("cat", 2)

    def test_labels_that_are_not_public(self, folder: Path) -> None:
        (video,) = self.read(folder, labels=False)
        assert video["length"] == 2 and "sem_seg_file_names" not in video

    def test_frames_without_labels_are_left_out(self, folder: Path, caplog) -> None:
        (folder / "data/cat/mask/0.png").unlink()
        (video,) = self.read(folder)
        assert [Path(path).name for path in video["file_names"]] == ["1.png"]
        assert "video cat has 2 frames and 1 label maps" in caplog.text

    def test_numbers_count_as_numbers(self, folder: Path) -> None:
        for kind in ("origin", "mask"):
            for frame in range(2, 13):
                Image.new("L", (4, 4)).save(folder / "data/cat" / kind / f"{frame}.png")
        (folder / "data/cat/origin/._3.png").write_bytes(b"of another system")
        (video,) = self.read(folder)
        for key in ("file_names", "sem_seg_file_names"):
            assert [Path(path).stem for path in video[key]] == [*map(str, range(13))]

    def test_two_files_of_one_frame(self, folder: Path) -> None:
        Image.new("L", (4, 4)).save(folder / "data/cat/origin/1.bmp")
        with pytest.raises(UserError, match=r"1\.bmp and 1\.png differ in their endings only"):
            self.read(folder)

    def test_no_frame_has_labels(self, folder: Path) -> None:
        (folder / "data/cat/mask/0.png").rename(folder / "data/cat/mask/7.png")
        (folder / "data/cat/mask/1.png").rename(folder / "data/cat/mask/8.png")
        with pytest.raises(UserError, match="no frame of video cat has a label map of the same"):
            self.read(folder)

    def test_a_video_without_frames(self, folder: Path) -> None:
        for path in (folder / "data/cat/origin").iterdir():
            path.unlink()
        with pytest.raises(UserError, match=r"origin holds no image, but a video needs at least"):
            self.read(folder)

    def test_a_video_that_is_missing(self, folder: Path) -> None:
        (folder / "val.txt").write_text("cat\n\ndog\n")
        with pytest.raises(UserError, match=r"'pets' has no folder .*dog.origin: prepare it"):
            self.read(folder)

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"\n \n", "names no video"),
            (b"../cat", r"val\.txt: video 1: ../cat leads out of"),
            (b"cat\n/etc", r"val\.txt: video 2: /etc leads out of"),
            (b"a" * 300, r"val\.txt: video 1: the file name a+\.\.\. is longer than"),
            (b"cat\x1b[2J", r"val\.txt: video 1: cat\\x1b\[2J holds control characters"),
            (b"cat\ncat\n", "names the video cat twice"),
            (b"\xff\xfe", "is not UTF-8 text"),
        ],
    )
    def test_a_list_that_is_wrong(self, folder: Path, content: bytes, message: str) -> None:
        (folder / "val.txt").write_bytes(content)
        with pytest.raises(UserError, match=message):
            self.read(folder)


class TestFaultsOfTracks:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        """One video of two frames; a cat, seen in the first."""
        video = {
            "id": 3,
            "height": 4,
            "width": 6,
            "length": 2,
            "file_names": ["a/0.jpg", "a/1.jpg"],
        }
        track = {
            "id": 7,
            "video_id": 3,
            "category_id": 5,
            "segmentations": [[[0, 0, 2, 0, 2, 2]], None],
            "bboxes": [[0, 0, 2, 2], None],
        }
        content = {"videos": [video], "annotations": [track]}
        (tmp_path / "tracks.json").write_text(json.dumps(content))
        return tmp_path

    @staticmethod
    def change(folder: Path, edit: Callable[[dict, dict, dict], object]) -> None:
        path = folder / "tracks.json"
        content = json.loads(path.read_text())
        edit(content, content["videos"][0], content["annotations"][0])
        path.write_text(json.dumps(content))

    @staticmethod
    def read(folder: Path) -> list[dict]:
        return read_track_records("pets", folder, folder / "tracks.json", {5: 0})

    def test_without_a_fault(self, folder: Path) -> None:
        (record,) = self.read(folder)
        (seen,), unseen = record["frame_annotations"]
        assert (seen["id"], seen["category_id"], seen["iscrowd"]) == (0, 0, 0)
        assert unseen == [] and "area" not in seen

    @pytest.mark.parametrize("annotations", [None, []])
    def test_tracks_that_are_not_public(self, folder: Path, annotations: list | None) -> None:
        self.change(folder, lambda content, *_: content.update(annotations=annotations))
        (record,) = self.read(folder)
        assert record["length"] == 2 and "frame_annotations" not in record

    def test_a_file_that_is_missing(self, folder: Path) -> None:
        (folder / "tracks.json").unlink()
        with pytest.raises(UserError, match=r"'pets' has no file .*tracks\.json: prepare it as"):
            self.read(folder)

    @pytest.mark.parametrize(
        ("edit", "message"),
        [
            (
                lambda _, video, track: track["segmentations"].append(None),
                r"annotations\[0\]: 'segmentations' is a list of 3, but has to be a list with an",
            ),
            (
                lambda _, video, track: track["bboxes"].pop(),
                r"annotations\[0\]: 'bboxes' is a list of 1, but has to be a list with an",
            ),
            (
                lambda _, video, track: video["file_names"].pop(),
                r"videos\[0\]: 'file_names' are 1, but 'length' is 2",
            ),
            (
                lambda _, video, track: video.update(file_names=[], length=0),
                r"videos\[0\]: 'file_names' is a list of nothing, but has to be a list of at",
            ),
            (lambda _, video, track: video.update(height=0), r"videos\[0\]: 'height' is 0, but"),
            (
                lambda _, video, track: video.update(file_names=["../0.jpg", "1.jpg"]),
                r"videos\[0\]: 'file_names'\[0\]: \.\./0\.jpg leads out of",
            ),
            (
                lambda _, video, track: track.update(video_id=4),
                r"annotations\[0\]: 'video_id' is 4, but has to be the id of one of the",
            ),
            (
                lambda _, video, track: track.update(category_id=6),
                r"has the category id 6, which is none of the 1 classes of dataset 'pets'",
            ),
            (
                lambda content, video, _: content["videos"].append(video),
                r"videos\[1\]: 'id' is 3, but has to be one that no",
            ),
            (lambda content, *_: content.update(videos=[], annotations=[]), r"has no videos"),
            (lambda content, *_: content.pop("videos"), r"tracks\.json has no 'videos': add it"),
            (
                lambda _, video, track: track.update(category_id=[5]),
                r"annotations\[0\]: 'category_id' is a list of 1, but has to be a whole number",
            ),
            (lambda _, video, track: video.pop("width"), r"videos\[0\] has no 'width': add it"),
            (
                lambda _, video, track: video.update(length=None),
                r"videos\[0\]: 'length' is null, but has to be a whole number",
            ),
            (
                lambda _, video, track: video.update(file_names=["a" * 300, "1.jpg"]),
                r"videos\[0\]: 'file_names'\[0\]: the file name a+\.\.\. is longer than",
            ),
            (
                lambda _, video, track: track.update(areas=["x", None]),
                r"annotations\[0\]: 'areas'\[0\] is 'x', but has to be a number from 0",
            ),
            (
                lambda _, video, track: track["bboxes"].__setitem__(0, [0, 0, 2]),
                r"annotations\[0\]: 'bboxes'\[0\] is a list of 3, but has to be \[x, y,",
            ),
            (
                lambda _, video, track: track["segmentations"].__setitem__(1, "cat"),
                r"annotations\[0\]: 'segmentations'\[1\] is neither a list of polygons nor",
            ),
            (
                lambda _, video, track: track.pop("segmentations"),
                r"annotations\[0\] has no 'segmentations': add it",
            ),
        ],
    )
    def test_a_file_that_is_wrong(self, folder: Path, edit: Callable, message: str) -> None:
        self.change(folder, edit)
        with pytest.raises(UserError, match=message):
            self.read(folder)
