"""``python -m catrank``, and what the command ``catrank`` runs."""

import catrank.interrupts  # noqa: F401  before all that takes time to load

# isort: split

import sys

from catrank.cli import main


def run() -> None:
    """The console script: run the command line and exit."""
    sys.exit(main())


if __name__ == "__main__":
    run()
