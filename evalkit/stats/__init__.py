"""Intervals, paired differences, adjusted and sequential tests. Knows only numbers."""
