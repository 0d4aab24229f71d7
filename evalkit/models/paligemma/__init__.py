"""PaliGemma and PaliGemma 2 checkpoints in Hugging Face layout.

Importing this package imports neither torch nor transformers: loading a checkpoint does.
"""

from evalkit.models.paligemma.backend import PaliGemma
from evalkit.models.paligemma.checkpoint.info import CheckpointInfo, inspect

__all__ = ["CheckpointInfo", "PaliGemma", "inspect"]
