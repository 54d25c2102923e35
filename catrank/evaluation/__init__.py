"""Evaluating models on suites of data sets.

``suites``    runs what is ready, continues what was interrupted, writes the reports
``prompts``   prompt templates and synonyms that are compared
``passports`` how two scores differ in how they were made
"""
