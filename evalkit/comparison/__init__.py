"""Paired comparison, ranks, the gate and the trend of a training run. Prints nothing."""
