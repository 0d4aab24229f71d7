"""Restatements of reference scorers that are in no package, with every step and none optimised away."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch.nn import functional

from evalkit.text import vqa

# --- VQA: GT-Vision-Lab/VQA PythonEvaluationTools/vqaEvaluation/vqaEval.py @ a013f004 ---------------

_PUNCTUATION = [*';/[]"{}()=+\\_-><@`,?!']
_PERIOD = re.compile(r"(?!<=\d)(\.)(?!\d)")
_COMMA = re.compile(r"(\d)(\,)(\d)")
_CONTRACTIONS = {k: v for k, v in vqa._WORDS.items() if not v.isdecimal()}
_ARTICLES = ["a", "an", "the"]


class OfficialVqa:
    """The official script's loops, with one dictionary per human answer."""

    def __init__(self) -> None:
        self.numbers = dict(vqa.NUMBERS)

    def score(self, answers: Sequence[str], humans: Sequence[Sequence[str]]) -> list[float]:
        """Each question's accuracy; the human answers are normalised in place, as there."""
        truth = [[{"answer": h, "answer_id": i} for i, h in enumerate(some)] for some in humans]
        return [self._one(answer, some) for answer, some in zip(answers, truth, strict=True)]

    def _one(self, answer: str, humans: list[dict[str, Any]]) -> float:
        for each in humans:
            each["answer"] = each["answer"].replace("\n", " ").replace("\t", " ").strip()
        answer = answer.replace("\n", " ").replace("\t", " ").strip()
        if len({each["answer"] for each in humans}) > 1:
            for each in humans:
                each["answer"] = self._words(self._punctuation(each["answer"]))
            answer = self._words(self._punctuation(answer))
        scores = []
        for one in humans:
            others = [each for each in humans if each != one]
            agreeing = [each for each in others if each["answer"] == answer]
            scores.append(min(1, len(agreeing) / 3))
        return sum(scores) / len(scores)

    def _punctuation(self, text: str) -> str:
        out = text
        for mark in _PUNCTUATION:
            if (mark + " " in text or " " + mark in text) or re.search(_COMMA, text) is not None:
                out = out.replace(mark, "")
            else:
                out = out.replace(mark, " ")
        return _PERIOD.sub("", out, count=int(re.UNICODE))  # the flag is passed as a count

    def _words(self, text: str) -> str:
        out = []
        for word in text.lower().split():
            word = self.numbers.setdefault(word, word)
            if word not in _ARTICLES:
                out.append(word)
        for i, word in enumerate(out):
            if word in _CONTRACTIONS:
                out[i] = _CONTRACTIONS[word]
        return " ".join(out)


# --- masks: google-research/big_vision transfers/segmentation.py @ 0127fb6b -------------------------


class SegmentationMasks:
    """Decodes, pastes and compares dense masks; the network is in torch, with `batch` masks at once."""

    def __init__(self, weights: dict[str, npt.NDArray[np.float32]], batch: int) -> None:
        self.weights = {key: torch.from_numpy(value) for key, value in weights.items()}
        self.batch = batch

    def score(self, tokens: Sequence[tuple[int, ...]], truth: Sequence[npt.NDArray[np.bool_]]) -> list[float]:
        """The IoU of each mask; tokens are four location and sixteen mask numbers, truth is (h, w)."""
        found = []
        for start in range(0, len(tokens), self.batch):
            part = tokens[start : start + self.batch]
            decoded = self._decode(np.array([t[4:] for t in part]))
            for each, values, there in zip(part, decoded, truth[start:], strict=False):
                found.append(self._iou(each, values, there))
        return found

    def _iou(self, tokens: Sequence[int], values: Any, truth: npt.NDArray[np.bool_]) -> float:
        h, w = truth.shape
        y1, x1, y2, x2 = (t / 1023 for t in tokens[:4])
        area = truth.sum()
        y1, x1, y2, x2 = map(int, (y1 * h, x1 * w, y2 * h, x2 * w))
        if y2 <= y1 or x2 <= x1:
            return 0.0
        resized = Image.fromarray(values).resize([x2 - x1, y2 - y1], resample=Image.Resampling.BILINEAR)
        mask = np.asarray(resized) > 0.0
        shared = (truth[y1:y2, x1:x2] & mask).sum()
        return float(shared / (area + mask.sum() - shared))

    def _decode(self, indices: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        w = self.weights

        def conv(x: Any, name: str, padding: int = 0) -> Any:
            return functional.conv2d(x, w[f"{name}.weight"], w[f"{name}.bias"], padding=padding)

        with torch.inference_mode():
            x = w["_vq_vae._embedding"][torch.from_numpy(indices).reshape(-1)]
            x = x.reshape(len(indices), 4, 4, -1).permute(0, 3, 1, 2)
            x = functional.relu(conv(x, "decoder.0"))
            for block in ("decoder.2.net", "decoder.3.net"):
                inner = functional.relu(conv(x, f"{block}.0", 1))
                inner = functional.relu(conv(inner, f"{block}.2", 1))
                x = conv(inner, f"{block}.4") + x
            for name in ("decoder.4", "decoder.6", "decoder.8", "decoder.10"):
                x = functional.conv_transpose2d(x, w[f"{name}.weight"], w[f"{name}.bias"], 2, 1)
                x = functional.relu(x)
            values: npt.NDArray[np.float32] = conv(x, "decoder.12")[:, 0].numpy()
        return values
