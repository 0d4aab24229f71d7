"""Measurements, run with `python -m benchmarks.NAME`: ratios against a named rival, simulations, tables."""
