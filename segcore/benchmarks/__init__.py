"""Evaluate suites of data sets, with a passport (run manifest) a score, and write reports."""
