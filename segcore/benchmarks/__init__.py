"""Suites of data sets, evaluated with a passport on each score, and the pages that show them."""
