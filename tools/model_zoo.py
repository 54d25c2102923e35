#!/usr/bin/env python3
"""The page of the published weights, as MODEL_ZOO.md holds it.

    python tools/model_zoo.py > MODEL_ZOO.md

Names, files, where they come from, under which licence and what was compared here are those of
catrank/models/table.json, published results those of configs/published.json.
"""

import catrank.interrupts  # noqa: F401  before all that takes time to load

# isort: split

import argparse
from collections.abc import Iterator
from pathlib import Path

from config_index import backbone, load_published, published, table_row, task

from catrank.models import ModelEntry, list_models, releases
from segcore.errors import exit_on_user_error

HEADER = """\
# Published weights

Every published checkpoint of CAT-Seg, MaskFormer, Mask2Former, and RankSeg on the latter and on
Segmenter that loads here. Each comes from its authors, under their terms, and is used as it is. A
name downloads the file once, and verifies it; a file that is here already loads by its path:

    python train_net.py --config-file <config> --eval-only MODEL.WEIGHTS <name or file>

[Checkpoints](docs/reference/checkpoints.md) describes downloads and their cache. Files of other
per-pixel models, of SeMask and of ViT-Adapter load by their path:
[per-pixel models](docs/explanation/per_pixel.md) and
[SeMask and ViT-Adapter](docs/explanation/semask_vit_adapter.md)
say where they are.

"Published" is what the authors report, in percent; it was not measured here, since the data sets
and the files are not at hand. "Verified here" says what was:

- *outputs*: with the same numbers as weights, the authors' code and this one agree;
- *keys*: name and shape of every weight are those of the authors' model;
- *built*: the config builds the model that its authors describe, and nothing was compared.

Loading is strict whatever the column says: a file that does not fit a config key by key is refused
by one error message. Outputs were compared, besides, of smaller models that have no published file:
Swin-T with RankSeg, a panoptic R50 with RankSeg, and R50 on videos, semantic and by instance; of
MaskFormer R50 with 20 queries, a narrow Swin, and a panoptic R50 with one encoder layer.

`python tools/model_zoo.py > MODEL_ZOO.md` writes this page.
"""
COLUMNS = ("name", "file", "config", "task", "backbone", "published", "verified here")


def zoo() -> str:
    """The whole page."""
    return "\n".join([HEADER, *_lines()]).rstrip("\n") + "\n"


def _lines() -> Iterator[str]:
    results = {name: entry["results"] for name, entry in published().items()}
    for release in releases():
        models = [model for model in list_models() if model.release is release]
        if release.repository is None:
            continue
        yield f"## {release.title}\n"
        yield f"- From: <{release.repository}>. {release.get}"
        yield f"- Licence of the weights: {release.licence}\n"
        yield table_row(COLUMNS)
        yield table_row("---" for _ in COLUMNS)
        for model in models:
            yield table_row(cells(model, results.get(model.config, {})))
        yield ""


def cells(model: ModelEntry, results: dict[str, float]) -> list[str]:
    """The cells of one model, in the order of ``COLUMNS``; ``results`` are the published ones."""
    cfg, path = load_published(model.config), Path(model.config)
    return [
        f"`{model.name}`",
        f"`{model.file_name}`",
        f"[{path.parent.as_posix().replace('/swin', '')}/{path.stem}](configs/{model.config})",
        task(cfg),
        backbone(cfg) + (" (IN-22k)" if "IN21k" in model.config else ""),
        ", ".join(f"{metric} {value}" for metric, value in results.items()) or "-",
        ", ".join(model.verified) or "built",
    ]


def main() -> None:
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    print(zoo(), end="")


if __name__ == "__main__":
    with exit_on_user_error():
        main()
