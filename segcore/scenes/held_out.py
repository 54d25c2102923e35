"""List the combinations that are held out from training.

python -m segcore.scenes.held_out scenes-60
"""

import argparse
from collections import Counter
from itertools import combinations

from segcore.scenes.catalogue import CATALOGUES, Catalogue, SceneClass

ATTRIBUTES = ("colour", "texture", "shape")


def summarize(catalogue: Catalogue) -> str:
    """Return lines about the classes, and how evenly attributes and their pairs are held out."""
    objects, unseen = catalogue.objects, catalogue.unseen_objects
    lines = [
        f"{catalogue.name}: {len(catalogue.classes)} classes, {len(catalogue.grounds)} grounds and "
        f"{len(objects)} objects, {len(unseen)} of them ({len(unseen) / len(objects):.1%}) unseen"
    ]
    for names in [(name,) for name in ATTRIBUTES] + list(combinations(ATTRIBUTES, 2)):
        whole, held = _count(objects, names), _count(unseen, names)
        numbers = [held[key] for key in whole]
        lines.append(
            f"  same {' and '.join(names)}: {len(whole)} groups of {max(whole.values())}, "
            f"{min(numbers)} to {max(numbers)} of each unseen"
        )
    return "\n".join(lines)


def _count(entries: tuple[SceneClass, ...], names: tuple[str, ...]) -> Counter:
    return Counter(tuple(getattr(entry, name) for name in names) for entry in entries)


def table(catalogue: Catalogue) -> str:
    """Return a Markdown table of the colours in which each texture and shape is unseen."""
    lines = [f"| | {' | '.join(catalogue.shapes)} |", "| --- " * (len(catalogue.shapes) + 1) + "|"]
    for texture in catalogue.textures:
        cells = [
            ", ".join(
                entry.colour
                for entry in catalogue.unseen_objects
                if (entry.texture, entry.shape) == (texture, shape)
            )
            for shape in catalogue.shapes
        ]
        lines.append(f"| {texture} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("catalogue", choices=CATALOGUES)
    catalogue = CATALOGUES[parser.parse_args().catalogue]
    print(summarize(catalogue), table(catalogue), sep="\n\n")


if __name__ == "__main__":
    main()
