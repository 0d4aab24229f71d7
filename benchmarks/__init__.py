"""Measurements, run with `python -m benchmarks.NAME`: speed against named rivals, simulations, tables."""
