"""Writes docs/tasks.md from the task files: `python docs/make_tasks.py`. A test holds the two in step."""

from __future__ import annotations

import fnmatch
from pathlib import Path

from evalkit import registry
from evalkit.tasks import loader
from evalkit.types import SUBMISSION, Task

PAGE = Path(__file__).parent / "tasks.md"
VIDEO = ["msrvtt*", "msvd*", "vatex*", "activitynet*"]
# title, what is said below it, patterns; a task stands in the first section that names it
SECTIONS: list[tuple[str, str, list[str]]] = [
    (
        "Captions",
        "",
        ["cococap*", "nocaps*", "coco35l*", "xm3600*", "screen2words*", "textcaps*", "scicap*", "widgetcap*",
         "coco_captions*"],
    ),
    ("Video", "Frames are taken from the first on, one every so many; a short video is played again.", VIDEO),
    (
        "Questions",
        "",
        ["vqav2*", "mmvp*", "pope*", "objaverse*", "okvqa*", "aokvqa*", "ai2d*", "gqa*", "xgqa*", "nlvr2*",
         "marvl*", "scienceqa*", "rsvqa*", "chartqa*", "vizwiz*", "tallyqa*", "countbenchqa*", "ocrvqa*",
         "textvqa*", "docvqa*", "infovqa*", "stvqa*", "vsr*"],
    ),
    ("Referring expressions as boxes", "", ["refcoco*_[vt]*"]),
    ("Referring expressions as masks", "", ["refcoco*"]),
    ("Detection", "", ["coco_detection*", "doclaynet*"]),
    (
        "Text, tables, music, molecules, descriptions, X-rays",
        "The second paper's further tasks.",
        ["icdar15*", "totaltext*", "pubtabnet*", "fintabnet*", "molecules*", "grandstaff*", "docci*",
         "mimic*"],
    ),
    ("Your own data", "`docs/data.md` tells the form of the lines.", ["custom*"]),
    ("Generated scenes", "What `evalkit demo` runs; made on the spot.", ["shapes*"]),
]  # fmt: skip
HEAD = """\
# Tasks

Written by `python docs/make_tasks.py` from `tasks/*.yaml`; don't edit it here.

A prompt is what stands between BOS and the newline, both added by evalkit. **L** is where the prompt is cut
(BOS and newline counted); *new* the most new tokens. **NA** and **AA** are bilinear resizing to a square
without and with antialiasing, as the published protocol has it for each task. *n* is the official number of
samples; where the disk holds another number, scores are stamped incomplete. Where the prompt's source is
**unpublished**, the prompt is evalkit's own and scores are not comparable with published ones.
"""


def section_of(name: str) -> str:
    found = [title for title, _, patterns in SECTIONS if any(_matches(name, p) for p in patterns)]
    if not found:
        raise SystemExit(f"docs/make_tasks.py: no section names {name}; add it")
    return found[0]


def _matches(name: str, pattern: str) -> bool:
    if pattern == "refcoco*_[vt]*":
        return name.startswith("refcoco") and "_seg_" not in name
    return fnmatch.fnmatchcase(name, pattern)


def page() -> str:
    loaded = [loader.load(name) for name in loader.names()]
    parts = [HEAD]
    for title, said, _ in SECTIONS:
        parts.append(f"## {title}\n" + (f"\n{said}\n" if said else ""))
        parts.append("| task | what | split | n | prompt | source of the prompt | image | decoding | score |")
        parts.append("|---|---|---|--:|---|---|---|---|---|")
        parts += [_row(task) for task in loaded if section_of(task.name) == title]
        parts.append("")
    parts.append("## Suites\n\n| suite | what | tasks |\n|---|---|---|")
    for name, path in loader.suites().items():
        suite = loader.read_suite(path)
        parts.append(
            f"| `{name}` | {_cell(suite['about'])} | {', '.join(f'`{t}`' for t in suite['tasks'])} |"
        )
    return "\n".join(parts) + "\n"


def _row(task: Task) -> str:
    cells = [
        f"`{task.name}`",
        task.about,
        task.data.split,
        _count(task),
        "`" + task.prompt.replace("\n", "⏎").replace("|", "\\|") + "`",
        "**unpublished**" if task.prompt_source == "unpublished" else task.prompt_source,
        _image(task),
        _decoding(task),
        _score(task),
    ]
    return "| " + " | ".join(_cell(cell) for cell in cells) + " |"


def _count(task: Task) -> str:
    told = [f"{task.data.count:,}"] if task.data.count else []
    return "; ".join([*told, *([f"published on {n:,}"] if (n := task.data.published_count) else [])])


def _image(task: Task) -> str:
    more = [f"padded {task.image['pad']}"] if task.image.get("pad") else []
    more += ["floats"] if task.image.get("floats") else []
    more += [f"JPEG {task.image['jpeg']}"] if task.image.get("jpeg") else []
    return ", ".join(["AA" if task.image.get("antialias") else "NA", *more])


def _decoding(task: Task) -> str:
    decode = task.decode
    beam = f"beam {decode.beams}" if decode.beams > 1 else "greedy"
    never = f", never {' or '.join(decode.forbid)}".replace("<", "&lt;") if decode.forbid else ""
    return f"L {decode.text_length}, new {decode.max_new_tokens}, {beam}{never}"


def _score(task: Task) -> str:
    if task.not_scored:
        head, mark, why = task.not_scored.partition(f"{SUBMISSION}:")
        return f"*{mark}*{why}" if mark and not head else f"*not scored, because* {task.not_scored}"
    packages = {metric: registry.make("metrics", metric).package for metric in task.metrics}
    shown = ", ".join(f"`{m}`" + (f" (with the package {p})" if p else "") for m, p in packages.items())
    if task.group_mean is None:
        return shown
    left = f" without {', '.join(task.group_mean)}" if task.group_mean else ""
    return f"{shown}, mean over groups{left}"


def _cell(text: str) -> str:
    return text.replace("\\|", "|").replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
