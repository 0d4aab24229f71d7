"""Tokenizers, edit distances and text rules that several metrics share."""
