"""Answers and targets to rows, rows to scores: one class a file, found by its file name."""
