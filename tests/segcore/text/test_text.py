"""Tokens, prompts, and a cache that is never outdated."""

import json
from dataclasses import replace

import open_clip
import pytest
import torch

from catseg_d2.encoders import DenseCLIP, build_encoders
from segcore.errors import UserError
from segcore.text import (
    TextCache,
    embed_prompts,
    embed_vocabulary,
    encode,
    prompt_templates,
    text_fingerprint,
    tokenize,
    tokenize_captions,
)
from segcore.text.cache import _integers
from segcore.vocabulary import Vocabulary

START, END = 49406, 49407


@pytest.fixture
def encoder() -> DenseCLIP:
    torch.manual_seed(0)
    return build_encoders("scenes-tiny").eval()


def test_tokens_equal_the_reference(golden) -> None:
    expected = json.loads((golden / "catseg" / "tokenizer.json").read_text())
    for case in expected["cases"]:
        assert encode(case["text"]) == case["ids"], case["text"]
        if case["error"]:
            with pytest.raises(UserError, match="tokens"):
                tokenize([case["text"]])
        else:
            row = tokenize([case["text"]])[0].tolist()
            assert row == case["row"] + [0] * (77 - len(case["row"])), case["text"]


def test_a_known_prompt() -> None:
    assert encode("A photo of a cat in the scene") == [320, 1125, 539, 320, 2368, 530, 518, 3562]
    assert tokenize(["cat"])[0, :4].tolist() == [START, 2368, END, 0]


def test_special_tokens_become_their_ids() -> None:
    assert encode("<|startoftext|> cat <|endoftext|>") == [START, 2368, END]


def test_a_long_name_is_refused_not_truncated() -> None:
    assert tokenize(["cat " * 75]).shape == (1, 77)
    with pytest.raises(UserError, match=r"78 tokens.*shorter"):
        tokenize(["cat " * 76])


def test_text_without_padding_equals_all_columns(encoder) -> None:
    tokens = tokenize(["cat", "a red striped circle"])
    full = tokens.clone()
    full[0, -1] = 1  # a token after the end of text, so that no column is left out
    torch.testing.assert_close(encoder.encode_text(full), encoder.encode_text(tokens))


def test_text_encoder_equals_open_clip() -> None:
    """With split attention, the fused attention kernel and without columns of padding."""
    library = open_clip.CLIP(**open_clip.get_model_config("scenes-tiny")).eval()
    ours = build_encoders("scenes-tiny").eval()
    ours.load_state_dict(library.state_dict())
    tokens = tokenize(["cat", "a photo of my dog", "x"])
    expected = library.encode_text(tokens, normalize=True)
    torch.testing.assert_close(ours.encode_text(tokens), expected, rtol=1e-4, atol=1e-5)


def test_imagenet_ensemble_has_eighty_unit_vectors(encoder) -> None:
    text = embed_prompts(encoder, ["cat", "dog"], "imagenet", memory=1 << 20)
    assert text.shape == (2, 80, 64)
    torch.testing.assert_close(text.norm(dim=-1), torch.ones(2, 80))


def test_unknown_templates_are_one_message() -> None:
    with pytest.raises(UserError, match="'poems': use one of single, imagenet, photo"):
        prompt_templates("poems")


@pytest.mark.parametrize(
    ("name", "number", "first"),
    [
        ("single", 1, "A photo of a cat in the scene"),
        ("photo", 1, "a photo of a cat."),
        ("imagenet", 80, "a bad photo of a cat."),
        ("imagenet_subset", 7, "itap of a cat."),
    ],
)
def test_templates(name: str, number: int, first: str) -> None:
    prompts = [template("cat") for template in prompt_templates(name)]
    assert len(prompts) == number and prompts[0] == first


def test_a_caption_of_ten_megabytes_takes_no_time() -> None:
    """Byte pairs of a word take a time that grows with the square of its length."""
    tokens, num_truncated = tokenize_captions(["xkcd" * (10 << 18), "cat"], 16)
    assert num_truncated == 1 and tokens[0, -1] == END and tokens[1, 1] == 2368


CHANGES = {
    "a step": lambda clip: clip.ln_final.weight.add_(1e-3),
    "one bit": lambda clip: clip.token_embedding.weight[7, 3].mul_(1 + 2e-7),
    "behind the version counter": lambda clip: clip.text_projection.data.mul_(1.5),
    "two values swapped": lambda clip: clip.positional_embedding.data.copy_(
        clip.positional_embedding.data.flip(0)
    ),
}


@pytest.mark.parametrize("change", CHANGES)
@torch.no_grad()
def test_changed_weights_change_the_key(encoder, change: str) -> None:
    cache, vocabulary = TextCache(), Vocabulary.load(["cat", "dog"])
    before = cache.get(encoder, vocabulary, "single")
    assert cache.get(encoder, vocabulary, "single") is before
    CHANGES[change](encoder)
    assert cache.get(encoder, vocabulary, "single") is not before


def test_the_bits_of_many_tensors_are_read_in_few_parts() -> None:
    """A GPU starts kernels for every part, which takes longer than their work."""
    tensors = [torch.arange(n, dtype=torch.int32) for n in (3, 40, 0, 7, 200, 1)]
    bits = torch.cat([part for tensor in tensors for part in _integers([tensor], 1000)])
    for size, most in ((16, 11), (64, 3), (1000, 1)):
        parts = list(_integers(tensors, size))
        assert len(parts) <= most and all(len(part) <= size for part in parts)
        assert torch.equal(torch.cat(parts), bits)


def test_fingerprint_does_not_depend_on_precision_support(encoder) -> None:
    assert text_fingerprint(encoder) != text_fingerprint(encoder.half())


def test_cache_drops_the_oldest(encoder) -> None:
    cache = TextCache(size=2)
    vocabularies = [Vocabulary.load([name]) for name in ("cat", "dog", "sky")]
    first = cache.get(encoder, vocabularies[0], "single")
    cache.get(encoder, vocabularies[1], "single")
    cache.get(encoder, vocabularies[2], "single")
    again = cache.get(encoder, vocabularies[0], "single")
    assert again is not first and torch.equal(again, first)


def test_the_templates_of_a_vocabulary_are_used(encoder) -> None:
    """Each of them, if they are as many as the model's; otherwise the mean of all."""
    vocabulary = Vocabulary.load(["cat", "dog"])
    torch.testing.assert_close(
        embed_vocabulary(encoder, vocabulary, "single"),
        embed_prompts(encoder, vocabulary.prompts, "single"),
    )
    templates = ("a {}.", "a drawing of a {}.")
    formats = [template.format for template in templates]
    expected = embed_prompts(encoder, vocabulary.prompts, formats)
    one = embed_vocabulary(encoder, replace(vocabulary, templates=templates[:1]), "single")
    torch.testing.assert_close(one, expected[:, :1])
    both = embed_vocabulary(encoder, replace(vocabulary, templates=templates), "single")
    mean = torch.nn.functional.normalize(expected.mean(dim=1, keepdim=True), dim=-1)
    torch.testing.assert_close(both, mean)
    many = embed_vocabulary(encoder, replace(vocabulary, templates=templates), "imagenet")
    torch.testing.assert_close(many, mean.expand(-1, 80, -1))


def test_templates_of_a_vocabulary_change_the_prediction_and_the_cache(encoder) -> None:
    cache, vocabulary = TextCache(), Vocabulary.load(["cat", "dog"])
    default = cache.get(encoder, vocabulary, "single")
    other = cache.get(encoder, replace(vocabulary, templates=("a drawing of a {}.",)), "single")
    assert not torch.equal(default, other)
    assert cache.get(encoder, vocabulary, "single") is default
