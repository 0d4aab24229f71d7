"""Intervals, paired differences, adjusted and sequential tests. Knows numbers only."""
