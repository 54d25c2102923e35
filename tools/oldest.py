"""Print the oldest releases that projects allow, as a requirements file.

    python tools/oldest.py pyproject.toml:test,video d2lite/pyproject.toml

A file is named with the extras that count too. A package that several lists name gets the highest
of its lower bounds.
"""

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def requirements(file: Path, extras: Iterable[str]) -> list[Requirement]:
    """Those of a pyproject.toml that count on this Python."""
    project = tomllib.loads(file.read_text(encoding="utf-8"))["project"]
    lists = [project["dependencies"]]
    lists += [project["optional-dependencies"][extra] for extra in extras]
    found = [Requirement(text) for texts in lists for text in texts]
    return [r for r in found if r.marker is None or r.marker.evaluate()]


def lower_bound(requirement: Requirement) -> Version:
    """The version behind its ``>=`` or ``==``.

    Raises:
        ValueError: there is none.
    """
    for specifier in requirement.specifier:
        if specifier.operator in (">=", "=="):
            return Version(specifier.version)
    raise ValueError(f"{requirement.name} has no lower bound: write {requirement.name}>=...")


def oldest(wanted: Iterable[Requirement]) -> dict[str, Version]:
    """Name -> the lowest version that all of them allow."""
    found: dict[str, Version] = {}
    for requirement in wanted:
        bound = lower_bound(requirement)
        name = canonicalize_name(requirement.name)
        found[name] = max(bound, found.get(name, bound))
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("projects", nargs="+", metavar="FILE[:EXTRA,...]")
    wanted = []
    for text in parser.parse_args(arguments).projects:
        file, _, extras = text.partition(":")
        wanted += requirements(Path(file), filter(None, extras.split(",")))
    for name, version in oldest(wanted).items():
        print(f"{name}=={version}")


if __name__ == "__main__":
    main()
