"""Boxes, run-length masks, location tokens, polygons and the mask decoder."""
