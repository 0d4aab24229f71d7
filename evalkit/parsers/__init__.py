"""Model text to answers: one class a file, found by its file name."""
