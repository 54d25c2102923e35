"""The manifest of a labelling: what made it, and the hash of every shard."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from catrank.exports.files import save_json
from catrank.labelling.plan import VERSION, Plan
from catrank.labelling.shards import read_shard
from segcore.runtime.files import PARTIAL
from segcore.vocabulary import Vocabulary

FILE = "manifest.json"


def write_manifest(plan: Plan, vocabulary: Vocabulary) -> dict[str, Any]:
    """Write ``manifest.json`` after all shards are finished, and return its content.

    It holds no times and no names of machines: runs with equal results have equal manifests.

    Raises:
        UserError: it cannot be written.
    """
    shards = [read_shard(plan, number) for number in range(plan.shards)]
    manifest = {
        "version": VERSION,
        "images": plan.images,
        "errors": sum(shard.errors for shard in shards),
        "source": plan.source,
        "settings": asdict(plan.settings),
        "vocabulary": vocabulary.to_table(),
        "shards": [asdict(shard) for shard in shards],
    }
    save_json(manifest, plan.folder / FILE)
    return manifest


def remove_partial(folder: Path) -> None:
    """Remove files that killed runs were writing, from the output folder and those below."""
    for path in [*folder.rglob(f"{PARTIAL}*")]:
        path.unlink(missing_ok=True)
