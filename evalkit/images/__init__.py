"""Image bytes to the model's square: decoding, marks, resizing, and a cache of the result."""
