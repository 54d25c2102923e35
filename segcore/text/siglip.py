"""SigLIP's tokenizer: canonical text, then a unigram model that is read from a file.

Source: Zhai et al., "Sigmoid Loss for Language Image Pre-Training", ICCV 2023. The file comes with
the weights: ``tokenizer.json`` (read by the library tokenizers) or ``spiece.model`` (by
sentencepiece), both optional.
"""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path

from open_clip.tokenizer import basic_clean, canonicalize_text
from torch import Tensor

from segcore.errors import UserError, printable
from segcore.text.tokenizers import pad_rows
from segcore.text.tokens import MAX_CHARACTERS

FILES = ("tokenizer.json", "spiece.model")  # beside the weights
END, END_TEXT = 1, "</s>"  # also the padding
MAX_BYTES = 64 << 20  # of a file: that of the largest published vocabulary has 34 MB


def canonicalize(text: str) -> str:
    """Return ``text`` as SigLIP's authors clean it.

    Broken Unicode and HTML entities are fixed, underscores become spaces, ASCII punctuation is
    deleted, the rest is lower-cased, and white space collapses to single spaces.
    """
    return canonicalize_text(basic_clean(text))


class SiglipTokenizer:
    """SigLIP's tokenizer: the ids of canonical text, the end token, which also pads the row.

    The text encoder attends to the padding and reads the last position: no token of a row can be
    left out. The file is read when text is first tokenized.
    """

    def __init__(
        self, file: str | Path | None, *, context_length: int, num_tokens: int, model: str
    ) -> None:
        """
        Args:
            file: path of the tokenizer, None: an error is raised when text is tokenized.
            context_length: tokens of a row, L.
            num_tokens: size of the text encoder's table.
            model: name of the model, for error messages.
        """
        self.file = file
        self.context_length = context_length
        self.num_tokens = num_tokens
        self.model = model

    def __call__(self, prompts: Sequence[str]) -> Tensor:
        """Return token ids (len(prompts), L).

        Raises:
            UserError: there is no file, it is not of these weights, or a prompt has more than L
                tokens; it is never truncated.
        """
        rows = self._encode(prompts)
        for prompt, ids in zip(prompts, rows, strict=True):
            if len(ids) > self.context_length:
                raise UserError(
                    f"'{printable(prompt[:60])}...' has {len(ids)} tokens, but the text encoder of "
                    f"{self.model} reads {self.context_length}: use a shorter name for this class."
                )
        return pad_rows(rows, self.context_length, END)

    def truncated(self, captions: Sequence[str]) -> tuple[Tensor, int]:
        """Return token ids (len(captions), L), and the number of truncated captions.

        The first tokens are kept, followed by the end token. Of a caption the first
        ``MAX_CHARACTERS`` are read.
        """
        rows = self._encode([caption[:MAX_CHARACTERS] for caption in captions])
        number = sum(
            len(ids) > self.context_length or len(caption) > MAX_CHARACTERS
            for caption, ids in zip(captions, rows, strict=True)
        )
        kept = [[*ids[:-1][: self.context_length - 1], END] for ids in rows]
        return pad_rows(kept, self.context_length, END), number

    def lengths(self, tokens: Tensor) -> Tensor:
        """Return L for each row (K,): the embedding depends on the padding."""
        return tokens.new_full((len(tokens),), self.context_length)

    def _encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of each text with the end token."""
        if self.file is None:
            raise UserError(
                f"{self.model} needs the tokenizer of its text encoder: put {FILES[0]} or "
                f"{FILES[1]}, which come with its weights, beside MODEL.CLIP_WEIGHTS or "
                "MODEL.WEIGHTS, or name the file in MODEL.CLIP_TOKENIZER"
            )
        size, encode = read_unigram_model(Path(self.file))
        if size > self.num_tokens:
            raise UserError(
                f"MODEL.CLIP_TOKENIZER {printable(str(self.file))} has {size} tokens, but the text "
                f"encoder of {self.model} knows {self.num_tokens}: take the file that comes with "
                "its weights"
            )
        return [[*encode(canonicalize(text)), END] for text in texts]


@functools.lru_cache(maxsize=4)
def read_unigram_model(file: Path) -> tuple[int, Callable[[str], list[int]]]:
    """Read a tokenizer file; return its number of tokens, and a function from text to ids.

    The ids come without an end token.

    Raises:
        UserError: the file is missing, too large or no such model, its end token is not SigLIP's,
            or the library that reads it is not installed.
    """
    if not file.is_file():
        raise UserError(f"MODEL.CLIP_TOKENIZER {printable(str(file))} is no file")
    if file.stat().st_size > MAX_BYTES:
        raise UserError(f"MODEL.CLIP_TOKENIZER {printable(str(file))} is too large for a tokenizer")
    read = _read_sentencepiece if file.suffix == ".model" else _read_tokenizers
    size, end, encode = read(file)
    if end != END:
        raise UserError(
            f"MODEL.CLIP_TOKENIZER {printable(str(file))} is not of SigLIP: the id of its token "
            f"{END_TEXT} is {end}, not {END}"
        )
    return size, encode


Unigram = tuple[int, int | None, Callable[[str], list[int]]]  # tokens, id of the end token, encode


def _read_tokenizers(file: Path) -> Unigram:
    try:
        from tokenizers import Tokenizer
    except ImportError:
        raise UserError(f"{file.name} is read by tokenizers: pip install tokenizers") from None
    try:
        model = Tokenizer.from_str(file.read_text(encoding="utf-8"))
    except Exception as error:  # the library raises this class itself
        raise _no_tokenizer(file, error) from error
    model.no_padding()
    model.no_truncation()
    return (
        model.get_vocab_size(),
        model.token_to_id(END_TEXT),
        lambda text: model.encode(text, add_special_tokens=False).ids,
    )


def _read_sentencepiece(file: Path) -> Unigram:
    try:
        from sentencepiece import SentencePieceProcessor
    except ImportError:
        raise UserError(f"{file.name} is read by sentencepiece: pip install it") from None
    model = SentencePieceProcessor()
    try:
        model.LoadFromSerializedProto(file.read_bytes())
    except (RuntimeError, ValueError) as error:
        raise _no_tokenizer(file, error) from error
    return model.GetPieceSize(), model.PieceToId(END_TEXT), model.EncodeAsIds


def _no_tokenizer(file: Path, error: Exception) -> UserError:
    reason = printable(" ".join(str(error).split())[:100])
    return UserError(f"MODEL.CLIP_TOKENIZER {printable(str(file))} is no tokenizer: {reason}")
