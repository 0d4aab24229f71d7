"""One prepared command that proves and measures the engine on a GPU: `python -m benchmarks.gpu`."""
