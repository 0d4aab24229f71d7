"""Backends that hold a checkpoint: one class a file or folder, found by its name."""
