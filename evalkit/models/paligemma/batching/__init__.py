"""Requests to batches: batch sizes, image readers, streaming, close calls."""
