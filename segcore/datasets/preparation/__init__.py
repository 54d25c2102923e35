"""Preparing downloads of benchmarks, one module a benchmark.

Each has ``prepare(root, *, workers, ...)``, which writes what the registered data sets read, and
keeps what is there. ``catrank data prepare`` calls them; its help shows their docstrings.
"""
