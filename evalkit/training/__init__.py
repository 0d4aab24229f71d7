"""Evaluation inside a training: a function for one's own loop, a callback for transformers' Trainer."""
