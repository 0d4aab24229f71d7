"""The vocabulary as types: task, sample, request, prediction, answer, metric, score and the rest.

Boxes are always (y0, x0, y1, x1), the order of PaliGemma's `<loc>` tokens; sizes are always (height, width).
"""

from evalkit.types.answers import CUT, UNREADABLE, Box, Confident, Mask, Prediction
from evalkit.types.format import Format
from evalkit.types.metric import Breakdowns, Metric, Rows, Share, Stratum
from evalkit.types.model import Checkpoint, Conventions, Model, Opening, as_trained
from evalkit.types.parser import Parser
from evalkit.types.samples import (
    TARGETS,
    ImageRef,
    Mark,
    Remarks,
    Request,
    Sample,
    Size,
    Source,
    target_kinds,
)
from evalkit.types.scores import Score, remarked
from evalkit.types.tasks import SUBMISSION, Data, Decode, Preparation, Task, why_not_scored

__all__ = [
    "CUT",
    "SUBMISSION",
    "TARGETS",
    "UNREADABLE",
    "Box",
    "Breakdowns",
    "Checkpoint",
    "Confident",
    "Conventions",
    "Data",
    "Decode",
    "Format",
    "ImageRef",
    "Mark",
    "Mask",
    "Metric",
    "Model",
    "Opening",
    "Parser",
    "Prediction",
    "Preparation",
    "Remarks",
    "Request",
    "Rows",
    "Sample",
    "Score",
    "Share",
    "Size",
    "Source",
    "Stratum",
    "Task",
    "as_trained",
    "remarked",
    "target_kinds",
    "why_not_scored",
]  # fmt: skip
