"""PaliGemma and PaliGemma 2 checkpoints in Hugging Face layout.

Importing this folder imports neither torch nor transformers: they come when a checkpoint is loaded.
"""

from evalkit.models.paligemma.backend import PaliGemma
from evalkit.models.paligemma.checkpoint.info import CheckpointInfo, inspect

__all__ = ["CheckpointInfo", "PaliGemma", "inspect"]
