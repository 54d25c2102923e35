#!/usr/bin/env python3
"""Prepare a data set: `catrank data prepare mapillary_vistas`."""

import catrank.interrupts  # noqa: F401  before all that takes time to load

# isort: split

import sys

from catrank.cli import main

if __name__ == "__main__":
    sys.exit(main(["data", "prepare", "mapillary_vistas", *sys.argv[1:]]))
