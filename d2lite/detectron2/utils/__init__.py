"""Processes, scalars, logging, files and registries."""
