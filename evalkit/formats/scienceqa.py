"""ScienceQA's problems.json with pid_splits.json: school questions with lettered options.

Lu et al., 2022; schema as in the repository lupantech/ScienceQA.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from evalkit.data.faults import Faults
from evalkit.data.readers import read_json
from evalkit.data.records import Record, check_split, path_of
from evalkit.data.sources import image_ref
from evalkit.types import Format, Sample, Source

LETTERS = "ABCDEFGHIJ"


@dataclass(frozen=True)
class ScienceQa(Format):
    """One sample per problem of the split that has an image, id = pid, group = subject.

    `{options}` is "(A) a, (B) b" in the file's order; `{hint}` is "N/A" where the file has none.
    Target: ("A",), the right option's letter. Images: `<images>/<split>/<pid>/image.png`.
    """

    fields: ClassVar[tuple[str, ...]] = ("question", "hint", "options", "lecture")
    keys: ClassVar[tuple[str, ...]] = ("problems", "splits", "images")
    gives: ClassVar[tuple[str, ...]] = ("texts",)

    def samples(self, source: Source, split: str) -> Iterator[Sample]:
        path, images = path_of(source, "problems", self.keys), path_of(source, "images", self.keys)
        listed = path_of(source, "splits", self.keys)
        splits = Record(read_json(listed), str(listed))
        check_split(str(listed), split, splits.data)
        problems, faults = Record(read_json(path), str(path)), Faults()

        def of(pid: str) -> Iterator[Sample]:
            if not problems.has(pid):
                splits.wrong(split, f"names problem {pid[:40]!r}, which {path} does not hold")
            problem = problems.record(pid)
            if not problem.data.get("image"):
                return
            name = f"{problem.text('split') if problem.has('split') else split}/{pid}/{problem.name('image')}"
            if not pid.isalnum():
                problem.wrong("", "is not a problem number; pids are numbers")
            yield Sample(
                id=pid,
                images=(image_ref(images, name),),
                fields=_fields(problem),
                target=(_answer(problem),),
                group=problem.text("subject") if problem.has("subject") else "",
                cluster=name,
                choices=tuple(LETTERS[: len(problem.data["choices"])]),
            )

        yield from faults.of_all(dict.fromkeys(splits.texts(split, least=1)), of)


def _fields(problem: Record) -> dict[str, str]:
    choices = problem.texts("choices", least=1)
    if len(choices) > len(LETTERS):
        problem.wrong("choices", f"holds {len(choices)}; at most {len(LETTERS)} can be lettered")
    options = (f"({letter}) {choice}" for letter, choice in zip(LETTERS, choices, strict=False))
    return {
        "question": problem.text("question"),
        "hint": (problem.text("hint") if problem.has("hint") else "") or "N/A",
        "options": ", ".join(options),
        "lecture": problem.text("lecture") if problem.has("lecture") else "",
    }


def _answer(problem: Record) -> str:
    place = problem.integer("answer", least=0)
    if place >= len(problem.data["choices"]):
        problem.wrong("answer", f"is {place}; it must be a place among the choices, from 0")
    return LETTERS[place]
