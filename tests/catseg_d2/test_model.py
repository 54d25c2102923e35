"""The model: batches, vocabularies, weights and errors."""

import copy
import threading

import pytest
import torch

from catseg_d2.checkpoint import load_clip_weights
from catseg_d2.training import image_candidates
from segcore.errors import UserError
from segcore.vocabulary import Vocabulary

NAMES = ["red plain circle", "grass", "blue dotted square"]


def image(height: int, width: int, seed: int = 0) -> dict:
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8)
    return {"image": pixels, "height": height, "width": width}


WIDE = ("MODEL.SEM_SEG_HEAD.TEXT_GUIDANCE_DIM", 512)
WIDE = (*WIDE, "MODEL.SEM_SEG_HEAD.APPEARANCE_GUIDANCE_DIM", 512)
WINDOWS = ("TEST.SLIDING_WINDOW", "True", "TEST.PATCH_INFERENCE.OUTPUT_SIZE", 160)
WINDOWS = (*WINDOWS, "TEST.PATCH_INFERENCE.TILE", 96)


@pytest.mark.parametrize("options", [(), WINDOWS])
def test_every_image_of_a_batch_is_predicted(tiny, options) -> None:
    model = tiny(*options)
    model.set_vocabulary(NAMES)
    items = [image(96, 96, 1), image(50, 130, 2), image(200, 30, 3)]
    for item, prediction in zip(items, model(items), strict=True):
        assert prediction["sem_seg"].shape == (3, item["height"], item["width"])
        assert prediction["sem_seg"].min() >= 0 and prediction["sem_seg"].max() <= 1
        torch.testing.assert_close(model([item])[0]["sem_seg"], prediction["sem_seg"])


def test_size_of_the_prediction(tiny) -> None:
    model = tiny()
    model.set_vocabulary(NAMES)
    item = image(96, 96)
    assert model([{"image": item["image"]}])[0]["sem_seg"].shape == (3, 96, 96)
    assert model([{**item, "height": 31, "width": 77}])[0]["sem_seg"].shape == (3, 31, 77)


def test_permuted_class_names_permute_the_prediction(tiny) -> None:
    model, item = tiny(), image(96, 96)
    model.set_vocabulary(NAMES)
    scores = model([item])[0]["sem_seg"]
    model.set_vocabulary(NAMES[::-1])
    torch.testing.assert_close(model([item])[0]["sem_seg"], scores.flip(0))


@pytest.mark.parametrize("chunk", [1, 7])
def test_chunks_do_not_change_the_prediction(tiny, chunk: int) -> None:
    item = image(96, 96)
    scores = tiny()([item])[0]["sem_seg"]
    chunked = tiny("MODEL.SEM_SEG_HEAD.CLASS_CHUNK", chunk)([item])[0]["sem_seg"]
    torch.testing.assert_close(chunked, scores)


def test_more_classes_than_the_limit(tiny) -> None:
    model = tiny("MODEL.SEM_SEG_HEAD.MAX_CLASSES", 10)
    scores = model([image(96, 96)])[0]["sem_seg"]
    assert scores.shape[0] == 60
    assert (scores.amax(dim=(1, 2)) > 0).sum() == 10


def test_vocabularies_of_concurrent_calls_do_not_mix(tiny) -> None:
    """Two threads set vocabularies and predict; each prediction is of one of the vocabularies."""
    model, item = tiny(), image(96, 96)
    lists = [NAMES, [*NAMES, "sand"]]
    expected = {}
    for names in lists:
        model.set_vocabulary(names)
        expected[len(names)] = model([item])[0]["sem_seg"]
    errors = []

    def predict(names: list[str]) -> None:
        for _ in range(10):
            model.set_vocabulary(names)
            scores = model([item])[0]["sem_seg"]
            if not torch.allclose(scores, expected[len(scores)], atol=1e-6):
                errors.append(names)

    threads = [threading.Thread(target=predict, args=(names,)) for names in lists]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors


def test_vocabularies_of_images(tiny) -> None:
    """Each image of a batch may have another vocabulary; the model's does not change."""
    model = tiny()
    others = ["sand", "water"]
    expected = []
    for names in (NAMES, others, NAMES[::-1]):
        model.set_vocabulary(names)
        expected.append(model([image(96, 96)])[0]["sem_seg"])
    items = [image(96, 96) | {"vocabulary": names} for names in (NAMES, "sand, water")]
    for result, scores in zip(model([*items, image(96, 96)]), expected, strict=True):
        torch.testing.assert_close(result["sem_seg"], scores)
    assert list(model.vocabulary.names) == NAMES[::-1]
    unmerged = model.unmerged_predictions(items)
    assert [each.num_classes for each in unmerged] == [3, 2]
    with pytest.raises(UserError, match="no vocabulary named"):
        model([image(96, 96) | {"vocabulary": "ade20k_9999"}])


def test_threads_with_different_vocabularies(tiny) -> None:
    """All threads are inside the model with different vocabularies at the same time."""
    model, item = tiny(), image(96, 96)
    vocabularies = [NAMES[:1], NAMES[:2], NAMES, [*NAMES, "sand"]]
    expected = [model([item | {"vocabulary": each}])[0]["sem_seg"] for each in vocabularies]
    inside = threading.Barrier(len(vocabularies))
    get, results = model.text_cache.get, {}

    def wait_for_all(*arguments: object) -> torch.Tensor:
        inside.wait()
        text = get(*arguments)
        inside.wait()
        return text

    def predict(number: int) -> None:
        # Another vocabulary is set meanwhile, as by users of the older interface.
        model.set_vocabulary(vocabularies[number - 1])
        results[number] = [
            model([item | {"vocabulary": vocabularies[number]}])[0]["sem_seg"] for _ in range(2)
        ]

    model.text_cache.get = wait_for_all
    threads = [
        threading.Thread(target=predict, args=(number,)) for number in range(len(vocabularies))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == list(range(len(vocabularies)))
    for number, both in results.items():
        for scores in both:
            torch.testing.assert_close(scores, expected[number])


def test_training_never_uses_outdated_text(tiny) -> None:
    model, item = tiny(), image(96, 96)
    before = model([item])[0]["sem_seg"]
    labels = torch.zeros(96, 96, dtype=torch.long)
    optimizer = torch.optim.SGD(model.clip.transformer.parameters(), lr=10.0)
    model.train()
    sum(model([{**item, "sem_seg": labels}]).values()).backward()
    optimizer.step()
    model.eval()
    after = model([item])[0]["sem_seg"]
    assert (after - before).abs().max() > 1e-4
    model.text_cache = type(model.text_cache)()
    assert torch.equal(model([item])[0]["sem_seg"], after)


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("MODEL.SEM_SEG_HEAD.COST_LOSS_WEIGHT", 0.0),
        ("MODEL.SEM_SEG_HEAD.MASK_LOSS_WEIGHT", 0.0),
        ("MODEL.SEM_SEG_HEAD.CLIP_FINETUNE", "attention"),
        ("MODEL.SEM_SEG_HEAD.CLIP_FINETUNE", "full"),
        ("MODEL.SEM_SEG_HEAD.CLIP_FINETUNE", "frozen"),
        ("MODEL.SEM_SEG_HEAD.TRAIN_CANDIDATES", 0, "MODEL.SEM_SEG_HEAD.MAX_CLASSES", 5),
        ("MODEL.SEM_SEG_HEAD.PROMPT_LENGTH", 2, "MODEL.SEM_SEG_HEAD.PROMPT_DEPTH", 2,
         "MODEL.SEM_SEG_HEAD.CLIP_FINETUNE", "prompt"),
        ("MODEL.PROMPT_ENSEMBLE_TYPE", "imagenet"),
    ],
)  # fmt: skip
def test_every_trainable_parameter_gets_a_gradient(tiny, options) -> None:
    """Distributed training would wait forever for a parameter without one."""
    model = tiny(*options).train()
    labels = torch.arange(96)[:, None].expand(96, 96) // 32
    losses = model([{**image(96, 96), "sem_seg": labels}])
    sum(losses.values()).backward()
    missing = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not missing
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_activation_checkpointing_changes_no_gradient(tiny) -> None:
    gradients = []
    item = {**image(96, 96), "sem_seg": torch.arange(96)[:, None].expand(96, 96) // 32}
    for value in ("False", "True"):
        model = tiny("MODEL.SEM_SEG_HEAD.ACTIVATION_CHECKPOINTING", value).train()
        torch.manual_seed(1)
        sum(model([item]).values()).backward()
        gradients.append({n: p.grad for n, p in model.named_parameters()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-4, atol=1e-6)


def test_unseen_classes_are_not_training_candidates(tiny) -> None:
    model = tiny()
    text = model.text_cache.get(model.clip, Vocabulary.load("scenes_60"), "single")
    labels = torch.zeros(1, 96, 96, dtype=torch.long)
    seen = torch.tensor(model.train_vocabulary.seen)
    for _ in range(10):
        assert seen[image_candidates(model, labels, text)].all()
    model.train_candidates = 0
    assert image_candidates(model, labels, text).shape[1] == seen.sum()


def test_encoders_from_a_file(tiny, tmp_path) -> None:
    """A checkpoint of open_clip with fused attention loads, by path and by config."""
    import open_clip

    library = open_clip.CLIP(**open_clip.get_model_config("scenes-tiny"))
    path = tmp_path / "clip.pth"
    torch.save(library.state_dict(), path)
    model = tiny("MODEL.CLIP_WEIGHTS", path)
    model.load_pretrained()
    fused = library.visual.transformer.resblocks[1].attn.in_proj_weight
    block = model.clip.visual.transformer.resblocks[1].attn
    assert torch.equal(torch.cat(block.projections()), fused)
    del library.token_embedding
    torch.save(library.state_dict(), path)
    with pytest.raises(UserError, match=r"1 of .* tensors.*token_embedding"):
        load_clip_weights(model.clip, "scenes-tiny", str(path))
    with pytest.raises(UserError, match="neither a file nor a tag"):
        load_clip_weights(model.clip, "scenes-tiny", "no-such-tag")


ERRORS = {
    "CLIP_PRETRAINED": ("MODEL.SEM_SEG_HEAD.CLIP_PRETRAINED", "ViT-Z"),
    "no dense form": ("MODEL.SEM_SEG_HEAD.CLIP_PRETRAINED", "RN50"),
    "CLIP_FINETUNE": ("MODEL.SEM_SEG_HEAD.CLIP_FINETUNE", "some"),
    "ATTENTION_TYPE": ("MODEL.SEM_SEG_HEAD.ATTENTION_TYPE", "quick"),
    "PROMPT_DEPTH": (
        "MODEL.SEM_SEG_HEAD.PROMPT_DEPTH", 9, "MODEL.SEM_SEG_HEAD.PROMPT_LENGTH", 1,
    ),
    "TEXT_GUIDANCE_DIM": ("MODEL.SEM_SEG_HEAD.TEXT_GUIDANCE_DIM", 9),
    "here": ("MODEL.SEM_SEG_HEAD.CLIP_PRETRAINED", "ViT-L-14-CLIPA"),  # another tokenizer
    "FEATURE_RESOLUTION": ("MODEL.SEM_SEG_HEAD.FEATURE_RESOLUTION", [12]),
    "WINDOW_SIZES": ("MODEL.SEM_SEG_HEAD.WINDOW_SIZES", 5),
    "POOLING_SIZES": ("MODEL.SEM_SEG_HEAD.POOLING_SIZES", [0, 0]),
    "NUM_HEADS": ("MODEL.SEM_SEG_HEAD.NUM_HEADS", 3),
    "DECODER_DIMS": ("MODEL.SEM_SEG_HEAD.DECODER_DIMS", [16]),
    "CLASS_CHUNK": ("MODEL.SEM_SEG_HEAD.CLASS_CHUNK", -1),
    "CHUNK_MEMORY": ("MODEL.SEM_SEG_HEAD.CHUNK_MEMORY", -1),
    "SEM_SEG_OUTPUT": ("TEST.SEM_SEG_OUTPUT", "names"),
    "TOP_K": ("TEST.TOP_K", -1),
    "MAX_CLASSES": ("MODEL.SEM_SEG_HEAD.MAX_CLASSES", -1),
    "MASK_LOSS_WEIGHT": (
        "MODEL.SEM_SEG_HEAD.MASK_LOSS_WEIGHT", 0.0, "MODEL.SEM_SEG_HEAD.COST_LOSS_WEIGHT", 0.0,
    ),
}  # fmt: skip


@pytest.mark.parametrize("message", ERRORS)
def test_invalid_settings_are_one_message(tiny, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        tiny(*ERRORS[message])
    assert "\n" not in str(error.value)


def test_a_model_can_be_copied_and_saved(tiny, tmp_path) -> None:
    model, item = tiny(), image(96, 96)
    scores = model([item])[0]["sem_seg"]
    twin = copy.deepcopy(model)
    torch.save(model, tmp_path / "model.pth")
    assert torch.equal(twin([item])[0]["sem_seg"], scores)


def test_without_a_network_the_download_is_one_message(tiny, monkeypatch) -> None:
    def offline(*_, **__) -> None:
        raise RuntimeError("Failed to download weights")

    model = tiny("MODEL.SEM_SEG_HEAD.CLIP_PRETRAINED", "ViT-B-32", *WIDE)
    model.clip_weights = ("ViT-B-32", "openai")
    monkeypatch.setattr("open_clip.create_model", offline)
    with pytest.raises(UserError, match="openai could not be downloaded"):
        model.load_pretrained()


def test_errors_in_the_data_are_one_message(tiny) -> None:
    model = tiny().train()
    item = {**image(96, 96), "file_name": "a.png"}
    bad = torch.full((96, 96), 77)
    with pytest.raises(UserError, match=r"a\.png has the label 77, but scenes_60 has 60 classes"):
        model([{**item, "sem_seg": bad}])
    small = {**image(64, 96), "sem_seg": torch.zeros(64, 96).long()}
    with pytest.raises(UserError, match="differ in size"):
        model([{**item, "sem_seg": torch.zeros(96, 96).long()}, small])


def test_a_model_without_a_vocabulary_is_an_error(tiny) -> None:
    model = tiny("MODEL.SEM_SEG_HEAD.TEST_CLASS_JSON", "")
    with pytest.raises(UserError, match="set_vocabulary"):
        model([image(96, 96)])


def test_a_name_that_is_too_long_keeps_the_old_vocabulary(tiny) -> None:
    model = tiny()
    model.set_vocabulary(NAMES)
    with pytest.raises(UserError):
        model.set_vocabulary(["cat " * 80])
    assert model.vocabulary.names == tuple(NAMES)
