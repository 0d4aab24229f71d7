"""Predictions that were made elsewhere: read, and kept as a run to be compared, checked and exported."""

from __future__ import annotations

import dataclasses
import hashlib
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalkit.data import answers, sequences, sources
from evalkit.data.faults import Faults
from evalkit.data.packed import Samples
from evalkit.errors import ImageError, UserError, nearest
from evalkit.evaluation import plan as planning
from evalkit.evaluation import predict
from evalkit.evaluation.evaluate import LABEL
from evalkit.evaluation.predict import Session
from evalkit.runs.store import RunFolder
from evalkit.tasks import loader
from evalkit.tasks.dataset import DatasetCache, Selection
from evalkit.types import Checkpoint, Model, Prediction, Request, Sample, Task

TEXT_VERSION = 1  # raised by hand whenever the same file could give other text


@dataclass(eq=False)
class _Given(Model):
    """The answers of a file as a model; of an image that cannot be read no digest is recorded."""

    file: str
    predictions: Mapping[str, Prediction]

    def identity(self) -> Mapping[str, Any]:
        digest = hashlib.sha256()
        for name in sorted(self.predictions):
            digest.update(f"{name}\0{self.predictions[name].text}\0".encode())
        return {"backend": "predictions", "text_version": TEXT_VERSION, "answers": digest.hexdigest()}

    def predict(
        self,
        requests: Sequence[Request],
        on_bad_image: Callable[[Request, ImageError], None] | None = None,
    ) -> Iterator[Prediction]:
        for request in requests:
            if request.id in self.predictions:
                known = self.predictions[request.id]
                yield dataclasses.replace(known, prompt=request.prompt, image_digests=_digests(request))
            elif request.further:
                yield Prediction(request.id, request.prompt, "")
            elif on_bad_image is not None:
                on_bad_image(request, ImageError(f"{self.file}: has no prediction for {request.id}"))


def _digests(request: Request) -> tuple[str, ...]:
    try:
        return tuple(hashlib.sha256(sources.read_bytes(ref)).hexdigest() for ref in request.images)
    except ImageError:
        return ()


class Texts(Mapping[str, Prediction]):
    """Answers of a file by sample id, in the order of the dataset. Predictions are made when they are asked
    for, with the prompt of their sample, where there is a `task`: a text may repeat it."""

    def __init__(self, samples: Samples, task: Task | None) -> None:
        self._samples, self._task = samples, task
        self._names, self._places = samples.ids, samples.by_id()
        self._texts = sequences.Texts()
        self._unknown_said = False
        self._at = array("q", [-1]) * len(samples)  # by sample, where among the texts its answer is

    def add(self, where: str, name: str, text: str, faults: Faults) -> None:
        place = self._places.get(name)
        if place is None:
            self._unknown(where, name, faults)
        elif self._at[place] >= 0:
            faults.add(f"{where}: id {name!r} is repeated; each id must occur once")
        else:
            self._at[place] = len(self._texts)
            self._texts.append(text)

    def _unknown(self, where: str, name: str, faults: Faults) -> None:
        """Notes an id that the task lacks; what is near it is looked for once, since that takes long."""
        near = ""
        if not self._unknown_said and len(self._names) < 5000:
            near = nearest(name, self._names, most=5)
        self._unknown_said = True
        faults.add(f"{where}: the task has no sample {name!r}{near}", "unknown id")

    @property
    def missing(self) -> list[str]:
        """The samples without an answer."""
        return [self._names[place] for place, at in enumerate(self._at) if at < 0]

    def __getitem__(self, name: str) -> Prediction:
        place = self._places.get(name)
        if place is None or self._at[place] < 0:
            raise KeyError(name)
        prompt = "" if self._task is None else loader.prompt(self._task, self._samples.fields[place])
        return Prediction(id=name, prompt=prompt, text=self._texts[self._at[place]])

    def __contains__(self, name: object) -> bool:
        place = self._places.get(name) if isinstance(name, str) else None
        return place is not None and self._at[place] >= 0

    def __iter__(self) -> Iterator[str]:
        return (self._names[place] for place, at in enumerate(self._at) if at >= 0)

    def __len__(self) -> int:
        return len(self._texts)


def read_predictions(
    path: str, samples: Sequence[Sample], keys: answers.Keys | None = None, task: Task | None = None
) -> Texts:
    """Answers from any tool by sample id, as `data/answers.py` reads them; `keys` are those of id and text,
    `task` that whose prompts they answer.

    Raises Faulty, with a sentence for each kind, for lines that are damaged or no answers, and for ids that
    the task lacks or that are repeated.
    """
    found, faults = Texts(Samples.of(samples), task), Faults()
    for where, name, text, _ in answers.read(Path(path), keys, faults):
        found.add(where, name, text, faults)
    faults.done()
    return found


def keep(
    task: Task, datasets: DatasetCache, predictions: Mapping[str, Prediction], file: str, name: str,
    output: Path, command: str = "", views: Sequence[str] = (),
) -> RunFolder:  # fmt: skip
    """Writes and scores the run of a file of predictions below `output`. Samples without one are left out,
    as those whose images cannot be read. `views` are remarks beside those of the data."""
    if not LABEL.fullmatch(name):
        raise UserError(f"--name: {name!r}: write letters, digits and any of _ . + - @")
    model = _Given(file, predictions)
    about = f"{len(predictions):,} predictions of {file}"
    checkpoint = Checkpoint(name, about, 224, lambda protocol: model.identity(), lambda protocol: model)
    data = datasets.get(task)
    plan = planning.plan(data, checkpoint, output, Selection(), missing_images="skip")
    plan = dataclasses.replace(plan, remarks=(*data.remarks, *views), doubts=data.doubts)
    predict.run([plan], Session(checkpoint, datasets, on_bad_image="skip", command=command))
    return plan.folder
