"""Checkpoints on disk: finding, describing, loading, adapters, conversion."""
