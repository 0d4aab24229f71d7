"""`evalkit doctor --protocol-of`: a checkpoint and data of one's own to a report, and to `evalkit.yaml`."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalkit import models
from evalkit.conventions import CHOICES
from evalkit.errors import UserError
from evalkit.evaluation import detective, known, own_data, progress
from evalkit.evaluation.detective import Factor, Level, Verdict
from evalkit.evaluation.evaluate import load_tasks
from evalkit.files import atomic_write
from evalkit.options.fields import names, paths
from evalkit.options.model import model_options
from evalkit.options.verbs import DoctorOptions
from evalkit.tasks import loader
from evalkit.tasks.dataset import Dataset, Selection, choose, dataset, roots
from evalkit.types import Conventions, Task

if TYPE_CHECKING:
    from evalkit.models.paligemma import PaliGemma
    from evalkit.models.paligemma.known_answers import Known

SAMPLES = 64
FEWEST = 16  # known answers: of fewer, intervals over all comparisons say nothing


@dataclass(frozen=True)
class Report:
    """What was found, as text and as settings; `written` is the file, if one was asked for."""

    text: str
    verdict: Verdict
    written: Path | None = None


def investigate(options: DoctorOptions) -> Report:
    """What a checkpoint was trained with, by answers that its data states. Raises UserError for data without
    such answers, before the weights are loaded."""
    from evalkit.models.paligemma.known_answers import KnownAnswers

    if options.samples is not None and options.samples < FEWEST:
        raise UserError(
            f"--samples {options.samples}: give {FEWEST} or more known answers; of fewer nothing is certain"
        )
    tasks, places = _tasks(options)
    model = _model(options)
    stated = model.info.trained
    protocol = model.info.protocol or tasks[0].protocol
    usual = loader.preparation(tasks[0], model.info.resolution, protocol)
    for task in tasks[1:]:
        if loader.preparation(task, model.info.resolution, protocol) != usual:
            raise UserError(f"doctor: {tasks[0].name} and {task.name} prepare images in two ways; name one")
    every = [dataset(task, roots(places, tasks)) for task in tasks]
    chosen = _sampled(every, options.samples or SAMPLES)
    lengths = [None if protocol == "hf" else data.task.decode.text_length for data in every]
    length = None if None in lengths else max(n for n in lengths if n is not None)
    progress.say(f"{model.info.describe()}; {len(chosen)} known answers")
    answers = KnownAnswers(model.under(protocol), chosen, usual, length)

    def score(trained: Conventions) -> detective.Floats:
        return answers.likelihood(trained).token

    best = detective.search(score, detective.start(usual, stated), progress.say)
    ends = answers.likelihood(best).end
    found = detective.verdict(score, answers.inputs, best, ends, [k.cluster for k in chosen])
    text = "\n".join(lines(found, stated, options.protocol_of or ""))
    return Report(text, found, _write(options, model, found) if options.write and not found.foreign else None)


def _model(options: DoctorOptions) -> PaliGemma:
    from evalkit.models.paligemma import PaliGemma

    flags, args = options.of_model()
    given = model_options({**flags, **args})
    spec = options.protocol_of or ""
    if spec.startswith("demo:"):
        if options.write:
            raise UserError(f"doctor --write: {spec} is evalkit's own; nothing is written beside it")
        spec = models.embedded(spec, given.get("resolution", 224))
    return PaliGemma(spec, **given)


def _tasks(options: DoctorOptions) -> tuple[list[Task], list[Path]]:
    """The tasks with known answers, not read yet, and the data roots."""
    tasks, places = load_tasks(names(options.tasks), options, {}), list(paths(options.data_root))
    if options.data is not None:
        found = own_data.look(options.data, options)
        progress.say("\n".join(f"  {line}" for line in found.lines()))
        tasks += [own_data.read(found, draft, {}) for draft in found.drafts]
        places.append(found.root.absolute())
    if not tasks:
        raise UserError("doctor --protocol-of: name known answers, with --data FILE or --tasks NAMES")
    return tasks, places


def _sampled(every: Sequence[Dataset], wanted: int) -> list[Known]:
    """Known answers, as many of each dataset as of the others and of as many images as possible; a seeded
    choice."""
    each = [_ordered(data, wanted) for data in every]
    found: list[Known] = []
    for turn in range(max(map(len, each), default=0)):
        found += [mine[turn] for mine in each if turn < len(mine)]
    if len(found) < FEWEST:
        raise UserError(
            f"doctor --protocol-of: {len(found)} known answers in {', '.join(d.task.name for d in every)}; "
            f"at least {FEWEST} are needed: texts, or boxes that are asked for by 'detect'"
        )
    return found[:wanted]


def _ordered(data: Dataset, wanted: int) -> list[Known]:
    """Some known answers in a seeded order, first one of each image."""
    some = choose(data.samples, Selection(4 * wanted))
    made = sorted(known.known(data.task, some), key=lambda k: hashlib.sha256(k.id.encode()).digest())
    seen: dict[str, int] = {}
    turns = [seen.setdefault(k.cluster, 0) for k in made]
    for i, k in enumerate(made):
        turns[i] = seen[k.cluster]
        seen[k.cluster] += 1
    return [made[i] for i in sorted(range(len(made)), key=lambda i: turns[i])][:wanted]


# --- the report ------------------------------------------------------------------------------------


def lines(found: Verdict, stated: Conventions, called: str) -> list[str]:
    """A line a convention: its value if that is certain, else what it may be; then what follows."""
    told = found.told
    made = [
        f"{called}: what it was trained with, by {found.samples} known answers about {found.clusters} images",
        f"(nats a token by which answers are less likely, {detective.MOST} at most for one; 95 % intervals "
        f"over all {found.comparisons} comparisons, by Holm's procedure)",
    ]
    made += [f"  {each.name:<16} {_line(each)}" for each in found.factors]
    made.append(f"  {'eos':<16} {_ends(found)}")
    made.append(f"under the best of these the known answers cost {found.nats:.2f} nats a token")
    if found.foreign:
        return [
            *made,
            "warning: that is much, so the checkpoint was hardly trained on such prompts and answers, and "
            "what is sure says how it reads what is new to it; give its training data. Nothing goes to "
            "evalkit.yaml",
        ]
    against = {k: v for k, v in stated.said.items() if k in told and told[k] != v}
    for name, value in against.items():
        made.append(f"  evalkit.yaml says {name}: {_yaml(value)}, the answers {_yaml(told[name])}")
    if not told:
        return [*made, "nothing is certain: more or other answers (--samples, --data) may tell"]
    return [*made, "evalkit.yaml (--write puts it beside the checkpoint):", *_content(told)]


def _line(factor: Factor) -> str:
    if len(factor.distinct) < 2:
        return "this data cannot tell: all values are the same prompts, images and answers"
    left = " or ".join(_yaml(level.value) for level in factor.left)
    others = [level for level in factor.distinct if level is not factor.distinct[0]]
    behind = ", ".join(f"{_yaml(level.value)} {_behind(level)}" for level in others)
    alike = [level for level in factor.levels if level.same_as == factor.left[0].value]
    same = f" (here the same as {' and '.join(_yaml(a.value) for a in alike)})" if alike else ""
    if len(factor.left) == 1:
        sure = f"surely, p {_p(max(level.p for level in others))}" if not alike else "surely one of these"
        return f"{left}{same}: {sure}; {behind}"
    return f"can't be told apart: {left}{same}; {behind}"


def _behind(level: Level) -> str:
    return f"{level.behind:+.3f} ({level.low:+.3f} to {level.high:+.3f})"


def _p(value: float) -> str:
    return "below 0.0001" if value < 1e-4 else f"{value:.4f}"


def _ends(found: Verdict) -> str:
    mean, low, high = found.ends
    within = f"{max(0, low):.2f} to {min(1, high):.2f}"
    share = f"the end token follows answers with probability {mean:.2f} ({within})"
    if low > detective.LIKELY:
        return f"true: {share}"
    return f"false: {share}" if high < detective.LIKELY else f"can't be told: {share}"


def _yaml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if not isinstance(value, str) or value.isidentifier() else f'"{value}"'


def _content(told: Mapping[str, Any]) -> list[str]:
    return [f"{name}: {_yaml(told[name])}" for name in CHOICES if name in told]


def _write(options: DoctorOptions, model: PaliGemma, found: Verdict) -> Path:
    """`evalkit.yaml` in the folder of the adapter or the weights: what is certain over what it says."""
    from evalkit.models.paligemma.checkpoint import trained

    adapter = model.info.adapter
    folder = adapter.path if adapter is not None else model.info.path
    file = folder / trained.FILE if folder.is_dir() else folder.parent / trained.FILE
    before = trained.beside(file.parent)
    said = dataclasses.replace(before.conventions, **found.told)
    protocol = [f"protocol: {before.protocol}"] if before.protocol else []
    head = f"# by evalkit doctor, from {found.samples} known answers; what is not here could not be told"
    try:
        atomic_write(file, "\n".join([head, *protocol, *_content(said.said)]) + "\n")
    except OSError as error:
        raise UserError(f"{file}: cannot be written ({error.strerror}); leave out --write") from None
    return file
