"""Printing results, and comparing them with expected ones."""

import logging
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

from detectron2.config import CfgNode


def flatten_results_dict(results: Mapping[str, Any]) -> dict[str, Any]:
    """Turn nested results into one dict with keys of the form "task/metric"."""
    flat = {}
    for name, value in results.items():
        if isinstance(value, Mapping):
            inner = flatten_results_dict(value)
            flat |= {f"{name}/{key}": number for key, number in inner.items()}
        else:
            flat[name] = value
    return flat


def print_csv_format(results: Mapping[str, Any]) -> None:
    """Log results in lines for a spreadsheet; metrics with a "-" in their name are left out."""
    logger = logging.getLogger(__name__)
    for task, numbers in results.items():
        if not isinstance(numbers, Mapping):
            logger.info("copypaste: %s=%s", task, numbers)
            continue
        shown = {name: value for name, value in numbers.items() if "-" not in name}
        logger.info("copypaste: Task: %s", task)
        logger.info("copypaste: %s", ",".join(shown))
        logger.info("copypaste: %s", ",".join(f"{value:.4f}" for value in shown.values()))


def verify_results(cfg: CfgNode, results: Mapping[str, Mapping[str, float]]) -> bool:
    """Compare with TEST.EXPECTED_RESULTS, a list of [task, metric, value, tolerance].

    Returns:
        True; where a number is off, the process exits with code 1.
    """
    logger = logging.getLogger(__name__)
    failures = []
    for task, metric, expected, tolerance in cfg.TEST.EXPECTED_RESULTS:
        actual = results[task].get(metric)
        if actual is None or not np.isfinite(actual) or abs(actual - expected) > tolerance:
            failures.append(f"{task} {metric} is {actual}, not {expected} +- {tolerance}")
    if failures:
        logger.error("The results are not the expected ones: %s", "; ".join(failures))
        sys.exit(1)
    if cfg.TEST.EXPECTED_RESULTS:
        logger.info("The results are the expected ones")
    return True
