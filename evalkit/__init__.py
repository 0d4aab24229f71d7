"""evalkit: evaluation of PaliGemma checkpoints, by the published protocol."""

__version__ = "0.1.0"
