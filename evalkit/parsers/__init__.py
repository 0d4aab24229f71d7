"""From the model's text to answers: one class per file, found by its file name."""
