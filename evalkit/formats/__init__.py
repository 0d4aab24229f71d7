"""Datasets as they lie on disk: one class a file, found by its file name."""
