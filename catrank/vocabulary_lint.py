"""What is odd about a vocabulary, among it what only a text encoder can say."""

from collections.abc import Iterator
from typing import Any

# First, because segcore silences a warning that Detectron2's parts cause as they are loaded.
import catseg_d2

# isort: split
import torch.nn.functional as F
from torch import Tensor

from catrank import load_config
from catseg_d2.config import check_open_vocabulary
from segcore.engine import Trainer, build_checkpointer
from segcore.errors import UserError
from segcore.runtime.files import expand_home
from segcore.text import encode, prompt_templates
from segcore.vocabulary import Vocabulary, short
from segcore.vocabulary.lint import class_synonyms, lint_vocabulary

CONTEXT = 77  # tokens that CLIP's text encoders read, start and end included
ROWS = 1024  # of the table of cosines that are computed together


def findings(
    source: str, templates: str, model: "catseg_d2.CATSeg | None", threshold: float
) -> Iterator[str]:
    """Everything that is odd about one vocabulary.

    Args:
        source: a file, a registered name, or typed words.
        templates: name of the ensemble that a vocabulary without templates of its own is read in.
        model: whose text encoder compares the classes; None compares none.
        threshold: cosine above which two classes look the same.
    """
    try:
        vocabulary = Vocabulary.load(source)
    except UserError as error:
        yield str(error)
        return
    yield from lint_vocabulary(vocabulary)
    too_long = list(_too_long(vocabulary, templates))
    yield from too_long
    if model is not None and not too_long:
        text = model.text_cache.get(model.clip, vocabulary, model.templates)
        yield from look_alikes(vocabulary, text, threshold)


def _too_long(vocabulary: Vocabulary, templates: str) -> Iterator[str]:
    """Class names that do not fit into the longest of their prompts."""
    own = [template.format for template in vocabulary.templates]
    frames = [template("") for template in own or prompt_templates(templates)]
    longest = max(frames, key=lambda frame: len(encode(frame)))
    around = len(encode(longest)) + 2
    for number, name in enumerate(vocabulary.names):
        for word in class_synonyms(vocabulary, number):
            tokens = around + len(encode(word))
            if tokens > CONTEXT:
                yield (
                    f"class {short(name)}: {short(word)} makes {tokens} tokens in its longest "
                    f"prompt, but the text encoder reads {CONTEXT}"
                )


def look_alikes(vocabulary: Vocabulary, text: Tensor, threshold: float) -> Iterator[str]:
    """Pairs of classes whose embeddings, text (T, P, C), are nearly the same, the nearest first."""
    means = F.normalize(text.mean(dim=1), dim=-1)
    found: list[tuple[float, int, int]] = []
    for start in range(0, len(means), ROWS):
        cosines = means[start : start + ROWS] @ means.T
        for row, column in (cosines > threshold).nonzero().tolist():
            if start + row < column:
                found.append((float(cosines[row, column]), start + row, column))
    for cosine, one, other in sorted(found, key=lambda pair: (-pair[0], pair[1:])):
        names = f"{short(vocabulary.names[one])} and {short(vocabulary.names[other])}"
        yield f"classes {names} have nearly the same text embedding: cosine {cosine:.4f}"


def build_model(config_file: str, weights: str = "") -> "tuple[str, catseg_d2.CATSeg | None]":
    """Return the name of the ensemble of prompt templates, and the model where there are weights.

    Raises:
        UserError: the config is of a model that reads no class names, or the weights do not fit.
    """
    cfg = load_config(config_file, ["MODEL.SEM_SEG_HEAD.TEST_CLASS_JSON", ""])
    check_open_vocabulary(cfg, config_file)
    if not weights:
        return cfg.MODEL.PROMPT_ENSEMBLE_TYPE, None
    model: Any = Trainer.build_model(cfg).eval()
    build_checkpointer(cfg, model).load_for_use(expand_home(weights))
    return model.templates, model
