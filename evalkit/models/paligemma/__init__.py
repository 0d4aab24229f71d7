"""PaliGemma and PaliGemma 2 checkpoints in Hugging Face layout.

Importing this folder imports neither torch nor transformers: they come when a checkpoint is loaded.
"""

__all__ = ["CheckpointInfo", "PaliGemma", "inspect"]
