"""From answers and targets to rows, and from rows to scores: one class per file, found by its file name."""
