#!/usr/bin/env python3
"""What is odd about a vocabulary: one line a finding, exit code 1 where there is any.

    python tools/lint_vocabulary.py pets.json ade20k_150
    python tools/lint_vocabulary.py pets.json --config-file catseg_d2/vitb_384.yaml \\
        --weights model_base.pth --threshold 0.97

Found are: what a vocabulary is refused for; words that stand for several classes, or twice for one,
synonyms included; spaces at an end or side by side; words that are longer, in their sentence, than
the text tower reads; colours that are missing while other classes have one, or shared. With weights
also pairs of classes whose words look the same to the text tower: the cosine of their embeddings,
each the mean over its sentences, is above the threshold.
"""

import catrank.interrupts  # noqa: F401  before all that takes time to load

# isort: split

import argparse
from collections.abc import Iterator, Sequence

# First, because segcore silences a warning that Detectron2's parts cause as they are loaded.
import catseg_d2

# isort: split
import torch.nn.functional as F
from torch import Tensor

from catrank import load_config
from catseg_d2.config import check_open_vocabulary
from catseg_d2.text import encode, prompt_templates
from segcore.engine import Trainer, build_checkpointer
from segcore.errors import UserError, exit_on_user_error
from segcore.runtime.files import expand_home
from segcore.vocabulary import Vocabulary, short
from segcore.vocabulary.lint import class_synonyms, lint_vocabulary

CONTEXT = 77  # tokens that CLIP's text towers read, start and end included
ROWS = 1024  # of the table of cosines that are computed together


def findings(
    source: str, templates: str, model: "catseg_d2.CATSeg | None", threshold: float
) -> Iterator[str]:
    """Everything that is odd about one vocabulary.

    Args:
        source: a file, a registered name, or typed words.
        templates: name of the ensemble that a vocabulary without templates of its own is read in.
        model: whose text tower compares the classes; None compares none.
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
    """Words that do not fit into the longest of their sentences."""
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
                    f"sentence, but the text tower reads {CONTEXT}"
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
        yield f"classes {names} look the same to the text tower: cosine {cosine:.4f}"


def build(args: argparse.Namespace) -> "tuple[str, catseg_d2.CATSeg | None]":
    """The name of the sentence ensemble, and the model where there are weights."""
    cfg = load_config(args.config_file, ["MODEL.SEM_SEG_HEAD.TEST_CLASS_JSON", ""])
    check_open_vocabulary(cfg, args.config_file)
    if not args.weights:
        return cfg.MODEL.PROMPT_ENSEMBLE_TYPE, None
    model = Trainer.build_model(cfg).eval()
    build_checkpointer(cfg, model).load_for_use(expand_home(args.weights))
    return model.templates, model


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("vocabularies", nargs="+", help="files, registered names or typed words")
    parser.add_argument("--config-file", default="catseg_d2/vitb_384.yaml", help="of a CAT-Seg")
    parser.add_argument("--weights", default="", help="of that model; compares embeddings")
    parser.add_argument("--threshold", type=float, default=0.98, help="a cosine (default: 0.98)")
    args = parser.parse_args(arguments)
    templates, model = build(args)
    number = 0
    for source in args.vocabularies:
        for finding in findings(source, templates, model, args.threshold):
            print(f"{source}: {finding}")
            number += 1
    return 1 if number else 0


if __name__ == "__main__":
    with exit_on_user_error():
        raise SystemExit(main())
