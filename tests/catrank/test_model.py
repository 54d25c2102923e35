"""Models from names, configs and checkpoints; one image and many; classes of a call."""

import threading
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from detectron2.modeling import build_model
from PIL import Image

import catrank
from catrank import load_config
from segcore.errors import UserError

CLASSES = ["red striped square", "blue dotted circle", "grass", "sand"]


@pytest.fixture(scope="session")
def catseg() -> catrank.Model:
    return catrank.load("scenes-60", device="cpu")


@pytest.fixture(scope="session")
def panoptic() -> catrank.Model:
    return catrank.load("scenes-60-panoptic", device="cpu")


@pytest.fixture(scope="session")
def video_instance() -> catrank.Model:
    return catrank.load("scenes-60-video-instance", device="cpu")


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture
def album(tmp_path) -> Path:
    """Three images, of two sizes, and something that is none."""
    for number, size in enumerate([(40, 60), (50, 30), (40, 60)]):
        Image.fromarray(noise(*size, number)).save(tmp_path / f"{number}.png")
    (tmp_path / "1b.png").write_bytes(b"no image")
    return tmp_path


def test_top_classes_of_a_pixel(catseg):
    model = catrank.load("scenes-60", device="cpu", opts=["TEST.TOP_K", 3])
    image = noise(40, 60)
    result, plain = model.segment(image, CLASSES), catseg.segment(image, CLASSES)
    assert result.top_labels.shape == result.top_scores.shape == (3, 40, 60)
    assert (result.top_labels[0] == result.labels).all() and (result.labels == plain.labels).all()
    assert (result.top_scores[0] == result.pixel_scores).all()
    assert (np.diff(result.top_scores, axis=0) <= 0).all()
    assert plain.top_labels is None and plain.top_scores is None


def test_semantic_result(catseg):
    image = noise(40, 60)
    result = catseg.segment(image, CLASSES)
    assert result.task == "semantic" and result.class_names == tuple(CLASSES)
    assert result.labels.shape == result.size == (40, 60) and result.labels.dtype == np.int32
    assert result.pixel_scores.shape == (40, 60) and result.pixel_scores.min() >= 0
    assert (result.class_ids == np.unique(result.labels)).all()
    assert (result.masks.sum(axis=0) == 1).all()
    for index, class_id in enumerate(result.class_ids):
        mask = result.labels == class_id
        assert (result.masks[index] == mask).all()
        assert result.scores[index] == pytest.approx(result.pixel_scores[mask].mean(), rel=1e-4)
    assert (result.image == image).all() and result.overlay().size == (60, 40)
    assert result.category_scores is None and result.track_ids is None and result.frame is None
    assert repr(result).startswith("Result('image_000000', semantic, 60 x 40, ")


def test_pixel_scores_are_the_highest(catseg):
    image = noise(96, 96)
    result = catseg.segment(image, CLASSES)
    cfg = catseg.cfg.clone()
    network = build_model(cfg).eval()
    network.load_state_dict(catseg.network.state_dict())
    network.set_vocabulary(CLASSES)
    scores = network([{"image": torch.from_numpy(image.transpose(2, 0, 1).copy())}])[0]["sem_seg"]
    best, labels = scores.max(dim=0)
    assert (labels.numpy() == result.labels).all()
    np.testing.assert_allclose(result.pixel_scores, best.numpy(), rtol=1e-5, atol=1e-7)


def test_panoptic_result(panoptic):
    result = panoptic.segment(noise(60, 80))
    assert result.task == "panoptic" and len(result) == len(result.segments) > 0
    assert set(np.unique(result.segment_ids)) - {0} == {s.number for s in result.segments}
    assert ((result.labels == -1) == (result.segment_ids == 0)).all()
    for segment, mask, box in zip(result.segments, result.masks, result.boxes, strict=True):
        assert (result.labels[mask] == segment.class_id).all()
        left, top, right, bottom = box.astype(int)
        assert mask[top:bottom, left:right].sum() == mask.sum()
        assert mask[top].any() and mask[:, right - 1].any()


def test_a_video_model_takes_an_image_as_a_clip_of_one_frame(video_instance):
    image = noise(48, 64)
    result = video_instance.segment(image, min_score=0.0)
    (frame,) = video_instance.segment_video([image], min_score=0.0)
    assert result.task == "instance" and len(result) > 0
    assert (result.masks == frame.masks).all() and (result.scores == frame.scores).all()
    assert (np.diff(result.scores) <= 0).all()
    assert (frame.track_ids == np.arange(1, len(result) + 1)).all() and frame.frame == 0


def test_many_images_are_those_one_by_one_in_order(catseg, panoptic, album):
    for model, classes in ((catseg, CLASSES), (panoptic, None)):
        many = list(
            model.segment(album, classes, batch_size=3, on_error="skip")  # of two sizes
        )
        assert [Path(result.name).name for result in many] == ["0.png", "1.png", "2.png"]
        for result in many:
            alone = model.segment(result.name, classes)
            assert alone.image.shape == result.image.shape
            assert (alone.labels == result.labels).mean() > 0.999


def test_images_of_one_size_pass_together(panoptic, album, monkeypatch):
    batches = []
    forward = panoptic.network.forward

    def count(batched_inputs):
        batches.append([item["image"].shape[-2:] for item in batched_inputs])
        return forward(batched_inputs)

    monkeypatch.setattr(panoptic.network, "forward", count)
    list(panoptic.segment(album, batch_size=8, on_error="skip"))
    assert sorted(map(len, batches)) == [1, 2] and all(len({*batch}) == 1 for batch in batches)


def test_many_images_are_read_when_it_is_their_turn(catseg):
    drawn = []

    def images():
        for number in range(100):
            drawn.append(number)
            yield noise(30, 40, number)

    results = catseg.segment(images(), CLASSES, batch_size=2)
    assert not drawn
    assert next(results).name == "image_000000" and len(drawn) == 2
    assert next(results).name == "image_000001" and next(results).name == "image_000002"
    assert len(drawn) == 4


def test_an_unreadable_image_is_an_error_after_those_before(catseg, album):
    results = catseg.segment(album, CLASSES, batch_size=8)
    assert Path(next(results).name).name == "0.png"
    assert Path(next(results).name).name == "1.png"
    with pytest.raises(UserError, match=r"1b\.png"):
        next(results)


def test_an_unreadable_image_is_skipped(catseg, album, caplog):
    sources = [album / "absent.png", album / "1b.png", album / "0.png"]
    (result,) = catseg.segment(sources, CLASSES, on_error="skip")
    assert Path(result.name).name == "0.png"
    assert "absent.png" in caplog.text and "1b.png" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"on_error": "ignore"}, "on_error is 'ignore'"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"min_score": 2.0}, "min_score is 2.0"),
        ({"classes": "sky, sky"}, "both named 'sky'"),
    ],
)
def test_wrong_arguments(catseg, arguments, message):
    with pytest.raises(UserError, match=message):
        catseg.segment(noise(10, 10), **arguments)


def test_a_model_with_fixed_classes_takes_no_others(panoptic):
    for call in (panoptic.segment, panoptic.segment_video):
        with pytest.raises(UserError, match=r"knows only the 60 classes .* leave out classes"):
            call([noise(10, 10)], ["sky"])


def test_classes_of_a_call_are_its_own(catseg):
    """Threads that share a model do not see each other's classes."""
    image = noise(48, 48)
    lists = [CLASSES, CLASSES[::-1], ["grass"], ["sand", "grass"]]
    alone = [catseg.segment(image, classes).labels for classes in lists]
    before, found = catseg.class_names, {}

    def run(number: int) -> None:
        found[number] = [catseg.segment(image, lists[number]).labels for _ in range(3)]

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, expected in enumerate(alone):
        assert len(found[number]) == 3
        assert all((labels == expected).all() for labels in found[number])
    assert catseg.class_names == before


def test_video_of_an_image_model(catseg):
    frames = [noise(30, 40, number) for number in range(3)]
    results = list(catseg.segment_video(iter(frames), CLASSES, batch_size=2))
    assert [result.frame for result in results] == [0, 1, 2]
    for frame, result in zip(frames, results, strict=True):
        assert (result.labels == catseg.segment(frame, CLASSES).labels).mean() > 0.999


def test_a_broken_frame_comes_after_those_before(catseg, video_instance, album):
    for model in (catseg, video_instance):
        folder = album / model.cfg.MODEL.META_ARCHITECTURE
        folder.mkdir()
        for number in range(2):
            Image.fromarray(noise(30, 40)).save(folder / f"{number}.png")
        (folder / "2.png").write_bytes(b"no image")
        frames = model.segment_video(folder)
        assert next(frames).frame == 0 and next(frames).frame == 1
        with pytest.raises(UserError, match=r"2\.png"):
            next(frames)


# ---- what names a model ----------------------------------------------------------------------


@pytest.fixture
def checkpoint(catseg, tmp_path) -> Path:
    path = tmp_path / "model.safetensors"
    path.write_bytes(safetensors.torch.save(dict(catseg.network.state_dict())))
    return path


def test_a_config_names_its_checkpoint(checkpoint):
    opts = ["MODEL.WEIGHTS", checkpoint]
    model = catrank.load("catseg_d2/scenes_60.yaml", opts=opts, device="cpu", classes="sky, tree")
    assert model.class_names == ("sky", "tree") and model.open_vocabulary
    assert str(model.device) == "cpu" and "open vocabulary, 2: sky, tree" in repr(model)
    cfg = load_config("catseg_d2/scenes_60.yaml", [*map(str, opts)])
    assert catrank.load(cfg, device="cpu").cfg.MODEL.WEIGHTS == cfg.MODEL.WEIGHTS


def test_a_checkpoint_says_its_config(checkpoint, catseg, tmp_path):
    with pytest.raises(UserError, match=r"model\.safetensors does not say its config"):
        catrank.load(checkpoint)
    with_config = catrank.load(checkpoint, config="catseg_d2/scenes_60.yaml", device="cpu")
    assert with_config.class_names == catseg.class_names
    (tmp_path / "config.yaml").write_text(catseg.cfg.dump())
    assert catrank.load(checkpoint, device="cpu").class_names == catseg.class_names
    (tmp_path / "config.yaml").unlink()
    weights = dict(catseg.network.state_dict())
    checkpoint.write_bytes(safetensors.torch.save(weights, {"config": "catseg_d2/scenes_60.yaml"}))
    assert catrank.load(checkpoint, device="cpu").class_names == catseg.class_names
    for name in ("../../../etc/passwd", "/etc/passwd", "catseg_d2/absent.yaml"):
        checkpoint.write_bytes(safetensors.torch.save(weights, {"config": name}))
        with pytest.raises(UserError, match=r"leads out|no config file"):
            catrank.load(checkpoint)


def test_a_file_of_the_model_zoo_is_known_by_its_name(repository):
    model = catrank.load(repository / "demo/models/scenes_60_rankseg.safetensors", device="cpu")
    assert model.cfg.MODEL.RANKSEG.FLAG and len(model.class_names) == 60


@pytest.mark.parametrize("name", ["absent", "absent.pth", "absent.yaml", "", "a\0b"])
def test_no_such_model(name):
    with pytest.raises(UserError):
        catrank.load(name)


def test_two_configs(tmp_path):
    with pytest.raises(UserError, match="two configs"):
        catrank.load("catseg_d2/scenes_60.yaml", config="catseg_d2/vitb_384.yaml")
