"""Measurements too long for the tests; each is a module: `python -m benchmarks.statistics`."""
