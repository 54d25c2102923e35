#!/usr/bin/env python3
"""Find what is wrong with a data set: `catrank data check`."""

import catrank.interrupts  # noqa: F401  before all that takes time to load

# isort: split

import sys

from catrank.cli import main

if __name__ == "__main__":
    sys.exit(main(["data", "check", *sys.argv[1:]]))
