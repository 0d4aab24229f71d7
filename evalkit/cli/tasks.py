"""`evalkit list`, `show`, `data` and `validate`: what there is, and what decides a number. Runs nothing."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Sequence
from pathlib import Path

from evalkit import door, registry
from evalkit.cli.runs import list_runs
from evalkit.data import sources
from evalkit.data.faults import Faulty
from evalkit.errors import DataError, ImageError, UserError
from evalkit.evaluation import own_data, progress
from evalkit.files import json_text
from evalkit.options.fields import OptionError, flags, names, paths
from evalkit.options.groups import LayoutOptions
from evalkit.options.verbs import FindDataOptions, ListOptions, ShowOptions, ValidateOptions
from evalkit.printing import one_line, put, say
from evalkit.published import counts
from evalkit.report import formats
from evalkit.report.columns import aligned, screen_width
from evalkit.tasks import dataset, loader
from evalkit.tasks import schema as task_schema
from evalkit.tasks.absent import absent
from evalkit.tasks.layouts import place
from evalkit.tasks.layouts.place import counted
from evalkit.tasks.layouts.reading import dumped
from evalkit.tasks.layouts.recognise import readings
from evalkit.types import ImageRef, Sample, Size, Task

DECODED = 50  # images that `data --check` decodes

BROAD = ("paper", "paligemma1_table1", "paligemma2_table13", "quick", "smoke")
"""Suites across all kinds of tasks, which group nothing."""
OTHER = "in no suite of one kind"


def list_what(options: ListOptions) -> int:
    """Names and one line each; imports nothing heavy, and runs no code of the user's."""
    what, include = options.what, paths(options.include_path)
    if what == "runs":
        return list_runs(Path(options.output_path))
    if what == "tasks":
        return _list_tasks(names(options.words), include)
    if options.words:
        raise UserError(f"list {what}: takes no words; `list tasks WORD` finds tasks")
    if what == "suites":
        rows = [(n, loader.read_suite(p)["about"]) for n, p in loader.suites(include).items()]
    else:
        here = [(name, form.about) for name, form in formats.FORMS.items()] if what == "forms" else [
            (name, _about(what, name)) for name in registry.names(what)
        ]  # fmt: skip
        rows = [*here, *_own(what, include)]
    put("".join(f"{line}\n" for line in aligned(rows)), end="")
    if not rows:
        progress.say(f"no {what}")
    return 0


def _list_tasks(words: Sequence[str], include: Sequence[Path]) -> int:
    """Tasks that have all the words, a line each; on a screen under the first suite that has them."""
    about = {name: loader.load(name, extra=include).about for name in loader.names(include)}
    suite_of: dict[str, str] = {}
    for suite, path in loader.suites(include).items():
        for name in loader.expand(loader.read_suite(path)["tasks"], include) if suite not in BROAD else ():
            suite_of.setdefault(name, suite)
    shown: dict[str, list[str]] = {}
    for name, text in about.items():
        suite = suite_of.get(name, OTHER)
        if all(word.lower() in f"{name} {text} {suite}".lower() for word in words):
            shown.setdefault(suite, []).append(name)
    if not shown:
        progress.say(f"no task has {' and '.join(map(repr, words))} in its name, suite or description")
        return 1
    width = screen_width()
    if width is None:
        kept = {name for some in shown.values() for name in some}
        put("\n".join(aligned([(name, text) for name, text in about.items() if name in kept])))
        return 0
    wide = max(len(name) for some in shown.values() for name in some)
    room = width - wide - 4
    for suite in sorted(shown, key=lambda s: (s == OTHER, s)):
        put(suite)
        for name in shown[suite]:
            put(f"  {name:<{wide}}  {textwrap.shorten(about[name], max(20, room), placeholder=' …')}")
    return 0


def _own(room: str, include: Sequence[Path]) -> list[tuple[str, str]]:
    """What installed packages add to a room, and own code that task files of `--include-path` name."""
    rows = [(name, f"of a package: {point.value}") for name, point in registry.entry_points(room).items()]
    for folder in include:
        for spelling, path in loader.own_spellings(room, folder):
            rows.append((spelling, f"your own, named by {path}; runs with --allow-code"))
    return list(dict(rows).items())


def _about(room: str, name: str) -> str:
    cls = registry.find(room, name)
    return (cls.__doc__ or "").strip().split("\n")[0]


def show(options: ShowOptions) -> int:
    """`evalkit show TASK`: everything that decides a number, on a real sample where the data is there."""
    task = loader.load(str(options.task), options.overrides, paths(options.include_path))
    file = loader.file_of(str(options.task), paths(options.include_path))
    if options.yaml:
        put(_copy(task, file), end="")
        return 0
    image = loader.preparation(task, 224, task.protocol)
    lines = [
        f"{task.name} (version {task.version}): {task.about}",
        f"file       {file}",
        f"licence    {task.license}" + (f"; {task.homepage}" if task.homepage else ""),
        f"data       {task.data.format}, split {task.data.split}"
        + (f", {task.data.count:,} samples officially" if task.data.count else "")
        + (f", published on {task.data.published_count:,}" if task.data.published_count else ""),
        f"prompt     {task.prompt!r}" + (f" (source: {task.prompt_source})" if task.prompt_source else ""),
        f"protocol   {task.protocol}: {image.resize}{' antialiased' if image.antialias else ''}, "
        f"JPEG {image.jpeg}, EXIF {image.exif}; by the task file; evalkit.yaml and --protocol override",
        f"decode     {_search(task)}, {_cut(task)}, at most {task.decode.max_new_tokens} new tokens",
        *([f"classes    {_calls(task)}"] if task.classes_per_call or task.class_order != "listed" else []),
        f"parser     {registry.spell(registry.make('parsers', task.parser))}",
        *(f"metric     {registry.spell(registry.make('metrics', m))}" for m in task.metrics),
        *(f"source     {', '.join(f'{k}: {v}' for k, v in entry.items())}" for entry in task.data.sources),
    ]
    put("\n".join(lines))
    try:
        data = dataset.dataset(task, dataset.roots(paths(options.data_root), [task]))
    except UserError as error:
        put("sample     none: " + str(error))
        return 0
    sample = data.samples[0]
    put(f"found      {counted(len(data.samples), 'sample')} below {data.source.root}")
    put(f"sample     {sample.id}: {', '.join(map(str, sample.images))}")
    first, *more = loader.prompts(task, sample.fields)
    put(f"  prompt   {first!r} (BOS before, newline after it: added by evalkit)")
    put("".join(f"  then     {prompt!r}\n" for prompt in more), end="")
    put("  " + textwrap.shorten(f"target   {sample.target!r}", 300))
    absent = [str(i) for s in data.samples for i in s.images if not os.path.exists(i.path)]
    if absent:
        put(f"missing    {len(absent):,} images, the first is {absent[0]}")
    return 0


def _copy(task: Task, file: Path) -> str:
    """A task's file, with where it is and what a copy of it is called."""
    changed = f" --set is not in it: {', '.join(task.overrides)}." if task.overrides else ""
    head = f"# A copy of {file}.{changed} Save it under another name, such as my_{task.name}.yaml:\n"
    return head + f"# a task is called as its file, --tasks my_{task.name}.yaml.\n{door.text(file)}"


def _calls(task: Task) -> str:
    """`at most 5 a call, order listed, boxes of two calls are one from IoU 0.5 on`."""
    most = "all in one call" if task.classes_per_call is None else f"at most {task.classes_per_call} a call"
    iou = task.nms_across_calls
    joined = (
        "" if iou is None else f", of two calls' boxes that overlap by more than {iou:g} (IoU) one is kept"
    )
    return f"{most}, order: {task.class_order}{joined}"


def _search(task: Task) -> str:
    decode = task.decode
    if decode.mode == "likelihood":
        return f"likelihood of {', '.join(map(repr, task.choices))}"
    if decode.samples:
        return f"sampled at temperature {decode.temperature:g}, top_p {decode.top_p:g}, seed {decode.seed}"
    never = f", never {', '.join(map(repr, decode.forbid))}" if decode.forbid else ""
    return "greedy" + never if decode.beams == 1 else f"beam {decode.beams}"


def _cut(task: Task) -> str:
    length = task.decode.text_length
    return "prompt never cut" if length is None else f"prompt cut at {length} tokens"


def data(options: FindDataOptions) -> int:
    """`evalkit data TASK`: every place looked at, found or missing, and where to get the rest.

    With `--check` the data is read: another count than the official one, images that are missing or cannot
    be decoded, and whatever is left out or probably wrong (`warning`), are status 1; targets that the task's
    metrics cannot score are status 2.
    """
    status = 0
    include = paths(options.include_path)
    own, named = _own_data(names(options.tasks), include)
    _refuse_unused(options, own, named)
    for where in own:
        found_there = own_data.look(where, options)
        files = own_data.saved(found_there, options)
        mark = "" if options.check else "# "  # what is printed of one verb is a task file
        wrong_now = () if options.check else found_there.wrong  # else it is said with all that is read
        said = [*found_there.lines(), *(f"wrong    {each}" for each in wrong_now)]
        put("\n".join(mark + one_line(line) for line in said))
        status = max(status, int(bool(wrong_now)))
        for draft, file in zip(found_there.drafts, files, strict=True):
            if options.check:
                made = own_data.read(found_there, draft, options.overrides)
                lines, wrong = _checked(made, [found_there.root.absolute()], options.all_images, looked=True)
                put(f"{made.name}:\n" + "\n".join(f"  {line}" for line in lines))
                status = max(status, wrong, 1 if found_there.doubts else 0)
                continue
            put(f"# {file or found_there.name(draft) + '.yaml'}\n{dumped(draft.content)}", end="")
    for name in loader.expand(named, include, flag=""):
        task = loader.load(name, options.overrides, include)
        found = dataset.roots(paths(options.data_root), [task])
        looked = sources.status(task, found)
        usable = next((s for s in looked if s.complete), None)
        put(f"{task.name}: {'found below ' + str(usable.root) if usable else 'not found'}")
        for state in [usable] if usable else looked:
            put("".join(f"  found    {k}: {p}\n" for k, p in state.found.items()), end="")
            put("".join(f"  missing  {k}: {p}\n" for k, p in state.missing.items()), end="")
            put(f"  {state.note}\n" if state.note else "", end="")
        if not found and not usable:
            put("  no data root is set: --data-root DIR, EVALKIT_DATA, or data = [...] in evalkit.toml")
        if not usable:
            status = max(status, 1)
            put(f"  get it: {task.homepage or 'ask its authors'} ({task.license})")
        elif options.check:
            lines, wrong = _checked(task, found, options.all_images)
            put("\n".join(f"  {line}" for line in lines))
            status = max(status, wrong)
    return status


def _refuse_unused(options: FindDataOptions, own: Sequence[Path], named: Sequence[str]) -> None:
    """Raises OptionError for what only data of one's own, or only a task, has a use for."""
    given = options.given()
    for name in flags(LayoutOptions) if not own else ("data_root",) if not named else ():
        if name in given and name not in options.from_file:
            goes = f"goes with a folder or file of your own, not with {named[0]}" if named else (
                f"goes with tasks; {own[0]} is read where it is"
            )  # fmt: skip
            raise OptionError(name, given[name], f"{goes}; leave it out")


def _own_data(given: Sequence[str], include: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """Which of the names are folders or files of data, and which are tasks. A name that is both is a task's,
    and that is said."""
    known = {**dict.fromkeys(loader.names(include), "task"), **dict.fromkeys(loader.suites(include), "suite")}
    for name in given:
        if name in known and door.is_there(name) and _is_data(Path(name)):
            kind = "folder" if os.path.isdir(name) else "file"
            say(
                f"note: {name} is a {known[name]} and a {kind} here; this is the {known[name]}, "
                f".{os.sep}{name} is the {kind}"
            )
    own = [name for name in given if name not in known and _is_data(Path(name))]
    return [Path(name) for name in own], [name for name in given if name not in own]


def _is_data(path: Path) -> bool:
    """Whether a path is data and no task file, nor a folder of task files without data."""
    if not door.is_there(path):
        return os.sep in str(path) and path.suffix not in (".yaml", ".yml") and "*" not in str(path)
    files = [path] if path.is_file() else sorted(path.glob("*.yaml"))
    tasks = [f for f in files if f.suffix in (".yaml", ".yml") and b"metrics" in door.read(f, door.SMALL)]
    return not tasks or (path.is_dir() and bool(readings(place.look(path), None, "")))


def _checked(
    task: Task, roots: Sequence[Path], all_images: bool, looked: bool = False
) -> tuple[list[str], int]:
    """What reading the data shows, and the exit status that it asks for; doubts are said unless they were
    `looked` for before."""
    try:
        data = dataset.dataset(task, roots)
    except Faulty as error:
        wrong = [f"wrong    {said}" for said in error.said]
        if not error.samples or absent(error.samples).paths:
            return wrong, 1
        with door.within(sources.places(sources.locate(task, roots), roots)):
            return [*wrong, *_pictures(task, error.samples, all_images)[0]], 1
    except DataError as error:
        return [f"wrong    {error}"], 1
    except UserError as error:
        return [f"wrong    {error}"], 2
    counted, right = _counted(task, len(data.samples))
    told = [*data.told, *(("warning", doubt) for doubt in (() if looked else data.doubts or ()))]
    targets = [f"{word:<8} {said}" for word, said in told]
    warned = any(word == "warning" for word, _ in told)
    images, seen = _pictures(task, data.samples, all_images)
    return [counted, *targets, *images], int(not right or not seen or warned)


def _counted(task: Task, n: int) -> tuple[str, bool]:
    """A line about the count of samples, and whether it is as it should be."""
    official, published = task.data.count, task.data.published_count
    differs = f"; published on {published:,}" if published else ""
    if n == published:
        of = f", officially {official:,}" if official else ""
        return f"right    {n:,} samples, as many as the papers had{of}", True
    if official is None:
        return f"count    {counted(n, 'sample')}; no official count is known{differs}", True
    if n == official:
        return f"right    {n:,} samples, the official count{differs}", True
    known = ((t.name, t.data.count) for t in map(loader.load, loader.names()) if t.data.count)
    alike = [f"; {n:,} is {what}" for what in counts.resembles(task.name, n, known)]
    of = f"officially {official:,} ({n - official:+,}){differs}"
    return f"wrong    {n:,} samples, {of}" + "".join(alike), False


def _pictures(task: Task, samples: Sequence[Sample], all_images: bool) -> tuple[list[str], bool]:
    """Lines about the image files: whether they are there, and whether a sample of them, or all, can be
    decoded; and whether they are as they should be."""
    lost = absent(samples)
    if lost.paths:
        return [f"missing  {lost}"], False
    refs = list({str(ref): ref for sample in samples for ref in sample.images}.values())
    files = dict.fromkeys(ref.path for ref in refs)
    chosen = refs if all_images else refs[:: max(1, len(refs) // DECODED)][:DECODED]
    sizes = {str(s.images[0]): s.size for s in samples if s.size and len(s.images) == 1}
    bad = [why for ref in chosen if (why := _undecodable(task, ref, sizes.get(str(ref))))]
    of = (
        f"{len(chosen):,} of {len(refs):,} images" if len(chosen) < len(refs) else counted(len(refs), "image")
    )
    lines = [f"right    {counted(len(files), 'image file')}, none is missing"]
    if bad:
        return [*lines, f"wrong    {len(bad):,} of {of}, the first is {bad[0]}"], False
    more = "; --all-images decodes every one" if len(chosen) < len(refs) else ""
    return [*lines, f"right    {of} decoded{more}"], True


def _undecodable(task: Task, ref: ImageRef, stated: Size | None) -> str:
    """Why an image cannot be used: it cannot be decoded, or has another size than the dataset states."""
    from evalkit.images import prepare

    how = loader.preparation(task, 224, task.protocol)
    try:
        height, width, _ = prepare.decode(sources.read_bytes(ref), how.jpeg, how.exif, str(ref)).shape
    except ImageError as error:
        return str(error)
    if stated and stated != (height, width):
        return f"{ref}: is {height} high and {width} wide; the dataset says {stated[0]} and {stated[1]}"
    return ""


def validate(options: ValidateOptions) -> int:
    """Every file's first mistake, and whether there was one."""
    if options.schema:
        put(json_text(task_schema.schema(), indent=1))
        return 0
    files = [str(file) for file in paths(options.files)]
    if not files:
        raise UserError("validate: name task files, or --schema for the JSON schema")
    mistakes = 0
    for file in files:
        try:
            if os.path.exists(file) and not file.endswith((".yaml", ".yml")):
                kind = "a folder" if os.path.isdir(file) else "no task file"
                said = f"is {kind}; name .yaml files; `evalkit data {file} --check` reads data of your own"
                raise UserError(f"{file}: {said}")
            task = loader.load(file if file.endswith((".yaml", ".yml")) else f"{file}.yaml")
            read = _validated(task, options) if options.data else ""
            put(f"{file}: sound; {task.name}, {len(task.metrics)} metrics{read}")
        except UserError as error:
            mistakes += 1
            say("\n".join(f"evalkit: {one_line(said)}" for said in error.sentences))
    return 2 if mistakes else 0


def _validated(task: Task, options: ValidateOptions) -> str:
    """How many samples there are. Raises UserError for data that is missing, damaged or cannot be scored."""
    data = dataset.dataset(task, dataset.roots(paths(options.data_root), [task]))
    if data.unscored:
        raise UserError(f"{task.path}: {data.unscored}")
    if (lost := absent(data.samples)).paths:
        raise UserError(f"{task.name}: {lost}")
    return f", {len(data.samples):,} samples that they can score"


ACTS = {"list": list_what, "show": show, "data": data, "validate": validate}
