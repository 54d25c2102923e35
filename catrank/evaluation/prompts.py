"""What CAT-Seg is asked with in an evaluation: prompt templates and synonyms."""

import itertools
from collections.abc import Sequence

from detectron2.config import CfgNode

from catseg_d2.prompt_ensembles import SYNONYMS
from segcore.benchmarks.passport import text_hash
from segcore.text import prompt_templates


def prompt_variants(
    cfg: CfgNode, templates: Sequence[str], synonyms: Sequence[str]
) -> list[tuple[str, str]]:
    """What a model is asked with: its own words first, then every combination that is named."""
    if cfg.MODEL.META_ARCHITECTURE != "CATSeg":
        return [("", "")]
    own = cfg.MODEL.PROMPT_ENSEMBLE_TYPE
    named = itertools.product(templates or [own], synonyms or [SYNONYMS[0]])
    return list(dict.fromkeys([(own, SYNONYMS[0]), *named]))


def describe_prompts(templates: str, synonyms: str) -> dict[str, str | int]:
    """What a passport says of it; nothing where a model reads no words."""
    if not templates:
        return {}
    prompts = [template("{}") for template in prompt_templates(templates)]
    return {
        "synonyms": synonyms,
        "templates": templates,
        "prompts": len(prompts),
        "templates_sha256": text_hash(prompts),
    }
