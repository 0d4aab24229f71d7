"""`evalkit convert`, `doctor` and `ask`: one checkpoint, without a benchmark."""

from __future__ import annotations

from evalkit import models
from evalkit.errors import UserError
from evalkit.evaluation import evaluate, progress
from evalkit.evaluation.ask import reply, shown
from evalkit.options.fields import names
from evalkit.options.model import model_options, one_model
from evalkit.options.verbs import AskOptions, ConvertOptions, DoctorOptions
from evalkit.printing import cut, one_line, put

LONGEST = 100_000  # characters of an answer that are printed


def convert(options: ConvertOptions) -> int:
    """A big_vision checkpoint in Hugging Face layout."""
    from evalkit.models.paligemma.checkpoint.convert import convert as write

    write(options.file, options.target, options.tokenizer, progress.say)
    put(f"{options.target}: written; evalkit run --model {options.target} --tasks ...")
    return 0


def doctor(options: DoctorOptions) -> int:
    """What both engines say of a checkpoint, and what to set. 1: they do not agree. With `protocol_of`, what
    it was trained with."""
    if options.protocol_of is not None:
        from evalkit.evaluation.investigate import investigate

        report = investigate(options)
        put(report.text)
        if report.written:
            progress.say(f"{report.written}: written")
        return 0
    if not names(options.model):
        raise UserError("doctor: name a checkpoint with --model, or with --protocol-of")
    from evalkit.models.paligemma.doctor import examine

    well = True
    flags, args = options.of_model()
    given = model_options({**flags, **args})
    places = {
        spec: models.embedded(spec, given.get("resolution", 224)) if spec.startswith("demo:") else spec
        for spec in names(options.model)
    }
    for spec in places:  # a wrong name is said before others are examined for minutes
        evaluate.checkpoint(spec, options)
    for spec, path in places.items():
        text, sound = examine(path, given, options.samples or 32, progress.say, spec)
        put(text)
        well = well and sound
    return 0 if well else 1


def ask(options: AskOptions) -> int:
    """One answer, its tokens, boxes and masks, an overlay."""
    found = reply(options, evaluate.checkpoint(one_model(names(options.model), "ask"), options))
    put(cut(found.text, LONGEST))
    for thing in found.found:
        put(f"  {one_line(shown(thing, found.size))}")
    progress.say(f"tokens  {list(found.tokens)}; stopped at {found.stop}")
    if found.warning:
        progress.say(found.warning)
    if found.overlay:
        progress.say(f"overlay {found.overlay}")
    return 0


ACTS = {"convert": convert, "doctor": doctor, "ask": ask}
