#!/usr/bin/env python3
"""Evaluate models on suites of data sets: `catrank evaluate`."""

import catrank.interrupts  # noqa: F401  before all that takes time to load

# isort: split

import sys

from catrank.cli import main

if __name__ == "__main__":
    sys.exit(main(["evaluate", *sys.argv[1:]]))
