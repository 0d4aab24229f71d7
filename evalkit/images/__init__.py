"""Image bytes to the square that a model takes: decoding, marks, resizing, and a cache of the result."""
