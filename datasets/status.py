#!/usr/bin/env python3
"""Report which data sets are ready: `catrank data status`."""

import catrank.interrupts  # noqa: F401  before all that takes time to load

# isort: split

import sys

from catrank.cli import main

if __name__ == "__main__":
    sys.exit(main(["data", "status", *sys.argv[1:]]))
