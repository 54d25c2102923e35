"""Tokens, prompts, and a cache that is never outdated."""

import json
from dataclasses import replace

import open_clip
import pytest
import torch

from catseg_d2.text import (
    TextCache,
    embed_prompts,
    embed_vocabulary,
    encode,
    text_fingerprint,
    tokenize,
)
from segcore.errors import UserError
from segcore.vocabulary import Vocabulary

START, END = 49406, 49407


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


def test_text_without_padding_equals_all_columns(tiny) -> None:
    clip = tiny().clip
    tokens = tokenize(["cat", "a red striped circle"])
    full = tokens.clone()
    full[0, -1] = 1  # a token after the end of text, so that no column is left out
    torch.testing.assert_close(clip.encode_text(full), clip.encode_text(tokens))


def test_text_encoder_equals_open_clip() -> None:
    """With split attention, the fused attention kernel and without columns of padding."""
    from catseg_d2.clip import DenseCLIP, split_fused_attention

    library = open_clip.CLIP(**open_clip.get_model_config("scenes-tiny")).eval()
    ours = DenseCLIP("scenes-tiny").eval()
    ours.load_state_dict(split_fused_attention(library.state_dict()))
    tokens = tokenize(["cat", "a photo of my dog", "x"])
    expected = library.encode_text(tokens, normalize=True)
    torch.testing.assert_close(ours.encode_text(tokens), expected, rtol=1e-4, atol=1e-5)


def test_imagenet_ensemble_has_eighty_unit_vectors(tiny) -> None:
    text = embed_prompts(tiny().clip, ["cat", "dog"], "imagenet", memory=1 << 20)
    assert text.shape == (2, 80, 64)
    torch.testing.assert_close(text.norm(dim=-1), torch.ones(2, 80))


def test_unknown_templates_are_one_message(tiny) -> None:
    with pytest.raises(UserError, match=r"PROMPT_ENSEMBLE_TYPE.*single, imagenet"):
        tiny("MODEL.PROMPT_ENSEMBLE_TYPE", "poems")


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
def test_changed_weights_change_the_key(tiny, change: str) -> None:
    clip, cache, vocabulary = tiny().clip, TextCache(), Vocabulary.load(["cat", "dog"])
    before = cache.get(clip, vocabulary, "single")
    assert cache.get(clip, vocabulary, "single") is before
    CHANGES[change](clip)
    assert cache.get(clip, vocabulary, "single") is not before


def test_fingerprint_does_not_depend_on_precision_support(tiny) -> None:
    clip = tiny().clip
    assert text_fingerprint(clip) != text_fingerprint(clip.half())


def test_cache_drops_the_oldest(tiny) -> None:
    clip, cache = tiny().clip, TextCache(size=2)
    vocabularies = [Vocabulary.load([name]) for name in ("cat", "dog", "sky")]
    first = cache.get(clip, vocabularies[0], "single")
    cache.get(clip, vocabularies[1], "single")
    cache.get(clip, vocabularies[2], "single")
    again = cache.get(clip, vocabularies[0], "single")
    assert again is not first and torch.equal(again, first)


def test_the_templates_of_a_vocabulary_are_used(tiny) -> None:
    """Each of them, if they are as many as the model's; otherwise the mean of all."""
    clip, vocabulary = tiny().clip, Vocabulary.load(["cat", "dog"])
    torch.testing.assert_close(
        embed_vocabulary(clip, vocabulary, "single"),
        embed_prompts(clip, vocabulary.prompts, "single"),
    )
    templates = ("a {}.", "a drawing of a {}.")
    formats = [template.format for template in templates]
    expected = embed_prompts(clip, vocabulary.prompts, formats)
    one = embed_vocabulary(clip, replace(vocabulary, templates=templates[:1]), "single")
    torch.testing.assert_close(one, expected[:, :1])
    both = embed_vocabulary(clip, replace(vocabulary, templates=templates), "single")
    mean = torch.nn.functional.normalize(expected.mean(dim=1, keepdim=True), dim=-1)
    torch.testing.assert_close(both, mean)
    many = embed_vocabulary(clip, replace(vocabulary, templates=templates), "imagenet")
    torch.testing.assert_close(many, mean.expand(-1, 80, -1))


def test_templates_of_a_vocabulary_change_the_prediction_and_the_cache(tiny) -> None:
    clip, cache, vocabulary = tiny().clip, TextCache(), Vocabulary.load(["cat", "dog"])
    default = cache.get(clip, vocabulary, "single")
    other = cache.get(clip, replace(vocabulary, templates=("a drawing of a {}.",)), "single")
    assert not torch.equal(default, other)
    assert cache.get(clip, vocabulary, "single") is default
