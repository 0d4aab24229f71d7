"""Requests to batches: sizes, image readers, streaming, close calls."""
