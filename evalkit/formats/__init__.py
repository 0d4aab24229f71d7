"""Readers of datasets on disk: one class per file, found by its file name."""
