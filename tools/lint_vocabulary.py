#!/usr/bin/env python3
"""Find what is odd about vocabularies: `catrank vocabulary lint`."""

import catrank.interrupts  # noqa: F401  before all that takes time to load

# isort: split

import sys

from catrank.cli import main

if __name__ == "__main__":
    sys.exit(main(["vocabulary", "lint", *sys.argv[1:]]))
