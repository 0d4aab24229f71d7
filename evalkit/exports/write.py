"""`evalkit export`: reads runs and their datasets, and writes the files for test servers."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from evalkit.errors import UserError
from evalkit.evaluation import asked, progress, rescore
from evalkit.exports import forms
from evalkit.exports.layouts import ExportedRun, Written
from evalkit.files import atomic_write
from evalkit.options.fields import paths
from evalkit.options.verbs import ExportOptions
from evalkit.runs import store
from evalkit.types import why_not_scored

FOLDER = "export"  # inside the run's own


def export(options: ExportOptions) -> dict[Path, str]:
    """Path to description of each file written. All are checked and made before the first is written."""
    places = paths(options.runs)
    output = None if options.output is None else Path(options.output)
    folders = store.find(places)
    if not folders:
        raise UserError(f"export: no runs below {', '.join(map(str, places))}")
    files: dict[tuple[str, ...], list[tuple[store.RunFolder, ExportedRun]]] = {}
    for folder in folders:
        run = exported_run(folder, options)
        name = forms.choose(run, options.to)
        forms.refuse(run, name, options.allow_partial)
        files.setdefault(forms.merges(run, name), []).append((folder, run))
    if output is not None and not output.is_dir() and len(files) > 1:
        n = len(files)
        raise UserError(f"--output {output}: is one file for {n} exports; name a folder that exists")
    made: dict[Path, tuple[Written, str]] = {}
    for (name, *_), parts in files.items():
        runs = [run for _, run in parts]
        path = _place(parts[0][0], forms.file_name(runs[0], name), output)
        if path in made:
            raise UserError(f"{path}: two runs would be written there; export one, or leave --output out")
        made[path] = forms.write(runs, name), describe(runs, name)
    for path, (written, _) in made.items():
        atomic_write(path, written.text)
        for note in written.notes:
            progress.say(f"{path.name}: {note}")
    return {path: about for path, (_, about) in made.items()}


def exported_run(folder: store.RunFolder, options: ExportOptions) -> ExportedRun:
    """The run with its dataset as it is now. Raises UserError where a sample is another one than it was
    asked; reports when what was not asked has changed since the run."""
    found = rescore.find(folder, options)
    data = found.datasets.get(found.task)
    answers = folder.answers(found.run["digest"], found.run)
    for odd in answers.aside:
        progress.say(f"warning: {folder.name}: {odd}")
    asked.refuse_others(data, found.run, answers.entries, folder.name)
    if not asked.same_prompts(data, found.run):
        progress.say(f"{folder.name}: the data or its prompts have changed since the run")
    given = {k: e.prediction for k, e in answers.entries.items()}
    data = dataclasses.replace(data, parser=rescore.parser_of(found.run, data))
    return ExportedRun(folder.name, found.run["model"], data, given)


def describe(runs: list[ExportedRun], name: str) -> str:
    """A file's description: `107,394 answers as vqav2 (VQA's test server); submission only: ...`."""
    n = sum(len(r.samples) for r in runs)
    parts = [f"{n:,} answer{'' if n == 1 else 's'} as {name} ({forms.FORMS[name].about})"]
    parts += [f"partial: {r.run}: {missing}" for r in runs if (missing := forms.gap(r))]
    why = (why_not_scored(r.task.not_scored).partition(";")[0] for r in runs if r.task.not_scored)
    return "; ".join([*parts, *dict.fromkeys(why)])


def _place(folder: store.RunFolder, name: str, output: Path | None) -> Path:
    if output is None:
        return folder.path / FOLDER / name
    return output / name if output.is_dir() else output
