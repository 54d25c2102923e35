"""SigLIP's cleaning of text, and its tokenizer files."""

import json
from pathlib import Path

import pytest
import torch

from segcore.errors import UserError
from segcore.text.siglip import SiglipTokenizer, canonicalize

SCENES = Path(__file__).parents[3] / "catseg_d2/encoders/tokenizers/scenes.json"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  Potted_plant ", "potted plant"),
        ("T-shirt, jersey", "tshirt jersey"),
        ("it's a \u201ccaf\u00e9\u201d", "its a caf\u00e9"),
        ("&amp;lt;b&amp;gt; tag", "b tag"),
        ("\tfloor\n tiles", "floor tiles"),
        ("", ""),
    ],
)
def test_canonical_text(text: str, expected: str) -> None:
    assert canonicalize(text) == expected


def test_canonical_text_of_the_reference(golden) -> None:
    cases = json.loads((golden / "catseg_vlm" / "canonicalize.json").read_text())
    assert {text: canonicalize(text) for text in cases} == cases


def tokenizer(file: Path | None = SCENES, length: int = 12, tokens: int = 200) -> SiglipTokenizer:
    pytest.importorskip("tokenizers")
    return SiglipTokenizer(file, context_length=length, num_tokens=tokens, model="tiny")


def test_rows_end_with_the_padding_token() -> None:
    rows = tokenizer()(["A red, plain circle.", "Zebra"])
    assert rows.shape == (2, 12) and rows.dtype == torch.long
    pieces = json.loads(SCENES.read_text())["model"]["vocab"]
    words = [pieces[i][0] for i in rows[0]]
    assert words[:5] == ["\u2581a", "\u2581red", "\u2581plain", "\u2581circle", "</s>"]
    assert (rows[0, 4:] == 1).all()
    # An unknown word is its characters.
    assert "".join(pieces[i][0] for i in rows[1]).startswith("\u2581zebra</s>")
    assert tokenizer().lengths(rows).tolist() == [12, 12]


def test_long_names_are_refused_and_long_captions_truncated() -> None:
    eleven, twelve = " ".join(["red"] * 11), " ".join(["red"] * 12)
    assert tokenizer()([eleven])[0, -1] == 1
    with pytest.raises(UserError, match="has 13 tokens, but the text encoder of tiny reads 12"):
        tokenizer()([twelve])
    rows, truncated = tokenizer().truncated([twelve, eleven, "x" * 5000])
    assert truncated == 2
    assert torch.equal(rows[0], rows[1])
    assert rows[2, -1] == 1


def test_a_sentencepiece_model(tmp_path: Path) -> None:
    sentencepiece = pytest.importorskip("sentencepiece")
    prefix = tmp_path / "spiece"
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["a red circle", "a blue square", "grass and sky"] * 20),
        model_prefix=str(prefix),
        vocab_size=30,
        hard_vocab_limit=False,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    file = prefix.with_suffix(".model")
    ids = sentencepiece.SentencePieceProcessor(model_file=str(file)).encode("a redsquare")
    row = SiglipTokenizer(file, context_length=20, num_tokens=30, model="tiny")(["A red-square"])[0]
    assert row.tolist() == [*ids, *[1] * (20 - len(ids))]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("tokenizer.json", b"{", "is no tokenizer"),
        ("tokenizer.json", b"\xff\xfe", "is no tokenizer"),
        ("spiece.model", b"no model", "is no tokenizer"),
        ("tokenizer.json", SCENES.read_bytes().replace(b"</s>", b"<s/>"), "not of SigLIP"),
    ],
)
def test_other_files_are_one_message(tmp_path: Path, name: str, content: bytes, message) -> None:
    pytest.importorskip("sentencepiece")
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        tokenizer(tmp_path / name)(["cat"])
    assert "\n" not in str(error.value)


def test_files_that_are_missing_or_of_other_weights() -> None:
    with pytest.raises(UserError, match=r"absent\.json is no file"):
        tokenizer(Path("absent.json"))(["cat"])
    with pytest.raises(UserError, match=r"has 164 tokens, but .* tiny knows 100"):
        tokenizer(tokens=100)(["cat"])
