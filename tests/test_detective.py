"""What a checkpoint was trained with: the search and its certainty on made-up numbers, known answers of data,
likelihoods against the engines' own, and the command."""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from tiny import backend

from evalkit.cli.main import main
from evalkit.errors import UserError
from evalkit.evaluation import detective, known
from evalkit.evaluation.detective import FACTORS, Floats
from evalkit.evaluation.investigate import investigate
from evalkit.models.paligemma.decoding import likelihood
from evalkit.models.paligemma.interface import Prompt
from evalkit.models.paligemma.known_answers import Known, KnownAnswers
from evalkit.options.verbs import DoctorOptions
from evalkit.tasks import loader
from evalkit.types import Conventions, ImageRef, Preparation, Sample

USUAL = Preparation(28, "bicubic", True, jpeg="precise")
CLUSTERS = [str(i) for i in range(64)]


# --- the search ------------------------------------------------------------------------------------


class World:
    """A checkpoint that loses some nats a token for each convention that is not the one it was trained with;
    `costs` are of all, or of some by name. An answer's numbers have noise of their own."""

    def __init__(self, trained: Conventions, costs: Mapping[str, float], noise: float, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.trained, self.costs, self.noise = trained, costs, noise
        self.each = rng.normal(0, 1, 64)
        self.seed = seed

    def score(self, here: Conventions) -> Floats:
        lost = np.zeros(64)
        for name in FACTORS:
            mine, right = getattr(here, name), getattr(self.trained, name)
            rng = np.random.default_rng([self.seed, *f"{name}{mine}".encode()])
            lost += rng.normal(0, self.noise, 64)
            if mine != right:
                lost += self.costs.get(name, 0.0) * np.exp(rng.normal(0, 0.5, 64))
        return self.each - lost

    def verdict(self) -> detective.Verdict:
        begin = detective.start(USUAL, Conventions())
        best = detective.search(self.score, begin)
        return detective.verdict(self.score, lambda c: c, best, np.log(np.full(64, 0.99)), CLUSTERS)


def other(**changed: Any) -> Conventions:
    return dataclasses.replace(detective.start(USUAL, Conventions()), **changed)


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"prompt_mask": "causal"},
        {"newline": False, "bos": "image", "prompt_mask": "causal_image"},
        {
            "class_separator": ", ",
            "prompt_case": "lower",
            "question": "bare",
            "resize": "bilinear",
            "pad": "white",
        },
    ],
)
def test_what_costs_much_is_named(changed: dict[str, Any]) -> None:
    trained = other(**changed)
    told = World(trained, dict.fromkeys(FACTORS, 0.5), 0.1).verdict().told
    assert told == {**{name: getattr(trained, name) for name in FACTORS}, "eos": True}


def test_what_costs_nothing_is_never_named() -> None:
    """Pure noise, 19 comparisons a search: one search in twenty may err."""
    wrong = sum(len(World(other(), {}, 0.1, seed).verdict().told.keys() - {"eos"}) > 0 for seed in range(20))
    assert wrong <= 1


@pytest.mark.parametrize(("cost", "told"), [(0.5, True), (0.0, False)])
def test_what_is_certain_counts_no_more(cost: float, told: bool) -> None:
    """A difference of p = 0.006 is certain if it is one of a few that are in question, not if one of 19."""
    draws = np.random.default_rng(1).normal(0, 1, 64)
    weak = 0.05 + 0.05 * 8 / 2.85 * (draws - draws.mean()) / draws.std(ddof=1)
    strong = World(other(), dict.fromkeys([n for n in FACTORS if n != "newline"], cost), 0.0).score

    def score(here: Conventions) -> Floats:
        return strong(dataclasses.replace(here, newline=True)) - (0 if here.newline else weak)

    found = detective.verdict(score, lambda c: c, other(), np.zeros(64), CLUSTERS)
    assert found.comparisons == 19
    assert ("newline" in found.told) == told


def test_one_answer_that_fails_does_not_hide_the_others() -> None:
    """All answers are a little less likely, one by 20 nats a token more; or only that one is."""
    lost = np.random.default_rng(0).normal(0.05, 0.02, 64)
    lost[3] = 20
    alone = np.where(np.arange(64) == 3, 20.0, 0.0)
    for behind, told in ((lost, True), (alone, False)):
        found = detective.verdict(
            lambda c, b=behind: np.zeros(64) if c.newline else -b,
            lambda c: c.newline,
            other(),
            np.zeros(64),
            CLUSTERS,
        )
        assert ("newline" in found.told) == told


def test_a_sure_but_tiny_advantage_is_not_named() -> None:
    """A base that likes one way to resize a little better says nothing of the training."""
    told = World(other(resize="antialiased"), {"resize": 0.004}, 0.0001).verdict()
    resize = next(f for f in told.factors if f.name == "resize")
    assert all(level.p < 1e-6 for level in resize.levels[1:])
    assert "resize" not in told.told


def test_some_values_may_be_excluded_and_two_left() -> None:
    world = World(other(resize="antialiased"), {}, 0.01)
    score = world.score

    def aliased(here: Conventions) -> Floats:
        return score(here) - (0.5 if here.resize == "bilinear" else 0.0)

    found = detective.verdict(aliased, lambda c: c, other(), np.zeros(64), CLUSTERS)
    resize = next(f for f in found.factors if f.name == "resize")
    assert {level.value for level in resize.left} == {"antialiased", "bicubic"}
    assert not resize.told


def test_values_that_are_one_thing_on_the_data_are_not_told_apart() -> None:
    trained = other(prompt_case="kept")

    def same(here: Conventions) -> Any:
        return dataclasses.replace(
            here, prompt_case="kept" if here.prompt_case == "lower" else here.prompt_case
        )

    score = World(trained, dict.fromkeys(FACTORS, 0.5), 0.1).score
    found = detective.verdict(lambda c: score(same(c)), same, trained, np.zeros(64), CLUSTERS)
    case = next(f for f in found.factors if f.name == "prompt_case")
    assert [level.value for level in case.left] == ["kept"]
    assert "prompt_case" not in found.told, "kept or lower: the prompts are the same"


@pytest.mark.parametrize(("probability", "told"), [(0.95, True), (0.02, False), (0.5, None)])
def test_the_end_token(probability: float, told: bool | None) -> None:
    likely = np.clip(np.random.default_rng(0).normal(probability, 0.05, 64), 0.001, 0.999)
    found = detective.verdict(lambda c: np.zeros(64), lambda c: 0, other(), np.log(likely), CLUSTERS)
    assert found.told.get("eos") == told


def test_a_few_clusters_have_wide_intervals() -> None:
    score = World(other(newline=False), {"newline": 0.5}, 0.1).score
    few = [str(i // 32) for i in range(64)]
    assert detective.verdict(score, lambda c: c, other(newline=False), np.zeros(64), few).told == {
        "eos": True
    }


# --- known answers ---------------------------------------------------------------------------------


def task(prompt: str) -> Any:
    return dataclasses.replace(loader.load("docvqa_val"), prompt=prompt)


@pytest.mark.parametrize(
    ("prompt", "target", "wanted"),
    [
        ("answer en ?", ("a", "b", "b"), ("b", "b")),
        ("answer en ?", {"answers": ("x",), "type": "y"}, ("x", "x")),
        ("answer en ?", (), None),
        ("answer en ?", {"words": []}, None),
        (
            "detect cat",
            {"size": (100, 200), "box": (10.0, 20.0, 50.0, 200.0)},
            (
                "<loc0102><loc0102><loc0512><loc1023> cat",
                "<loc0102><loc0102><loc0512><loc1023> cat",
            ),
        ),
        (
            "detect a ; b",
            {"size": (100, 100), "objects": [{"category": "a", "box": (0, 25.07, 50, 74.93)},
                                             {"category": "b", "box": (0, 0, 99.9, 99.9)}]},
            (
                "<loc0256><loc0000><loc1023><loc0512> a ; <loc0000><loc0000><loc1022><loc1022> b",
                "<loc0256><loc0000><loc1023><loc0512> a ; <loc0000><loc0000><loc1022><loc1022> b",
            ),
        ),
        ("segment a", {"size": (9, 9), "objects": [{"category": "a", "box": (0, 0, 1, 1)}]}, None),
        ("detect a", {"size": (9, 9), "objects": []}, None),
    ],
)  # fmt: skip
def test_answers(prompt: str, target: Any, wanted: tuple[str, str] | None) -> None:
    found = known.answers(task(prompt), Sample("s", (), {}, target))
    assert found == ({} if wanted is None else dict(zip((1023, 1024), wanted, strict=True)))


def test_bins_are_rounded_or_cut() -> None:
    """Near the beginning 1/1024 gives the lower number, near the end the higher."""
    sample = Sample("s", (), {}, {"size": (1000, 1000), "box": (100.6, 100.6, 900.4, 900.4)})
    found = known.answers(task("detect cat"), sample)
    assert (found[1023][:9], found[1024][:9]) == ("<loc0103>", "<loc0103>")
    exact = [(1023 * 0.1006, 1024 * 0.1006), (1023 * 0.9004, 1024 * 0.9004)]
    assert [(round(a), int(b)) for a, b in exact] == [(103, 103), (921, 922)]
    assert (found[1023][18:27], found[1024][18:27]) == ("<loc0921>", "<loc0922>")


# --- likelihoods -----------------------------------------------------------------------------------


@pytest.mark.parametrize("family", [1, 2])
@pytest.mark.parametrize(
    "trained",
    [
        Conventions(),
        Conventions(prompt_mask="causal", bos="image", newline=False),
        Conventions(prompt_mask="causal_image"),
    ],
)
def test_one_pass_is_step_by_step(family: int, trained: Conventions) -> None:
    model = backend(tiny.checkpoint(family), engine="fast")
    slow = backend(tiny.checkpoint(family), engine="plain")
    texts, answers = ["what is this a cat", "a cat", "", "caption en"], ["a cat", "", "what is this", "dog"]
    made = [
        Known(str(i), str(i), (ImageRef(str(i % 3)),), t, {1023: a, 1024: a})
        for i, (t, a) in enumerate(zip(texts, answers, strict=True))
    ]
    fast, plain = (KnownAnswers(m, made, Preparation(28)).likelihood(trained) for m in (model, slow))
    assert np.allclose(fast.token, plain.token, atol=1e-4)
    assert np.allclose(fast.end, plain.end, atol=1e-4)
    assert fast.token[1] == 0


def test_rows_do_not_matter() -> None:
    model = backend(tiny.checkpoint(1), engine="fast")
    model.load()
    rng = random.Random(0)
    pixels = [tiny.prepare(ImageRef(str(i)), Preparation(28)).pixels[None] for i in range(3)]
    prompts = [Prompt(pixels[i % 3], tuple(rng.choices(range(5, 300), k=4 + i % 2))) for i in range(9)]
    answers = [rng.choices(range(5, 300), k=1 + i % 5) for i in range(9)]
    found = likelihood.of_answers(model._engine, prompts, answers, model.rules, rows=4)
    for prompt, answer, mine in zip(prompts, answers, found, strict=True):
        with torch.inference_mode():
            alone = likelihood.likelihood(model._engine, prompt, [answer], model.rules)[0]
        assert mine == pytest.approx(alone, abs=1e-4)


def test_what_changes_nothing_is_computed_once() -> None:
    model = backend(tiny.checkpoint(1), engine="fast")
    made = [
        Known("a", "a", (ImageRef("a"),), "a cat", {1023: "dog", 1024: "dog"}),
        Known("b", "a", (ImageRef("a"),), "detect dog ; cat", {1023: "a dog", 1024: "a dog"}),
    ]
    answers = KnownAnswers(model, made, Preparation(28))
    for trained in (Conventions(), Conventions(prompt_case="lower"), Conventions(bins=1024, newline=True)):
        first = answers.likelihood(trained)
    assert answers.read == 2
    sorted_ = answers.likelihood(Conventions(class_order="alphabetical"))
    assert answers.read == 3, "of the first nothing changed"
    assert sorted_.token[0] == first.token[0]
    assert sorted_.token[1] != first.token[1]
    answers.likelihood(Conventions(newline=False))
    assert answers.read == 5
    assert model._engine.memory.misses == 1, "one image, one pass of the tower"


# --- the command -----------------------------------------------------------------------------------


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    """16 lines about 16 images."""
    from PIL import Image

    rng = np.random.default_rng(0)
    made = []
    for i in range(16):
        Image.fromarray(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(tmp_path / f"{i}.png")
        made.append({"image": f"{i}.png", "prefix": "What is this", "suffix": ("a cat", "a dog")[i % 2]})
    file = tmp_path / "lines.jsonl"
    file.write_text("".join(json.dumps(x) + "\n" for x in made))
    return file


def test_the_command(
    lines: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A random model, to which all data is foreign: nothing is written. Where that is overlooked, whatever it
    says is written, read and honoured, and what it said before is kept."""
    folder = tiny.build(tmp_path / "mine", 1)
    (folder / "evalkit.yaml").write_text("protocol: hf\nclass_order: alphabetical\n")
    words = ["doctor", "--protocol-of", str(folder), "--data", str(lines), "--device", "cpu"]
    assert main([*words, "--write"]) == 0
    out, err = capsys.readouterr()
    assert "hardly trained on such prompts" in out
    assert "newline: " not in out
    assert (folder / "evalkit.yaml").read_text() == "protocol: hf\nclass_order: alphabetical\n"
    monkeypatch.setattr(detective, "FOREIGN", 100.0)
    assert main([*words, "--write"]) == 0
    out, err = capsys.readouterr()
    assert "16 known answers about 16 images" in out
    assert "bins             this data cannot tell" in out
    assert "evalkit.yaml: written" in err
    written = (folder / "evalkit.yaml").read_text()
    assert "protocol: hf\n" in written
    assert "class_order: alphabetical\n" in written
    said = out.partition("puts it beside the checkpoint):\n")[2]
    assert all(line in written for line in said.splitlines())
    assert backend(folder).info.protocol == "hf"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "doctor: name a checkpoint with --model, or with --protocol-of"),
        (["--protocol-of", "demo:later"], "name known answers, with --data FILE or --tasks"),
        (["--protocol-of", "demo:later", "--write", "--tasks", "demo"], "demo:later is evalkit's own"),
        (["--model", "demo:later", "--write", "--tasks", "demo"], "--tasks demo: goes with --protocol"),
        (["--model", "demo:later", "--protocol-of", "x"], "--protocol-of stands in place of --model"),
        (["--protocol-of", "demo:later", "--data", "x", "--save-task", "t.yaml"], "--save-task t.yaml: goes"),
    ],
)  # fmt: skip
def test_the_command_refuses(words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", *words]) == 2
    assert sentence in capsys.readouterr().err


def test_arguments_are_looked_at_before_anything_is_read_or_loaded(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("data was read, or a checkpoint examined")

    monkeypatch.setattr("evalkit.evaluation.investigate.dataset", never)
    monkeypatch.setattr("evalkit.models.paligemma.doctor.examine", never)
    words = ["doctor", "--protocol-of", "demo:later", "--tasks"]
    assert main([*words, "vqav2_val,ai2d_test"]) == 2
    assert "prepare images in two ways; name one" in capsys.readouterr().err
    assert main(["doctor", "--model", "demo:later", "--model", "nowhere"]) == 2
    assert "nowhere: no such folder" in capsys.readouterr().err


def test_too_few_answers(lines: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines.write_text("".join(lines.read_text().splitlines(keepends=True)[:9]))
    assert main(["doctor", "--protocol-of", str(tiny.checkpoint(1)), "--data", str(lines)]) == 2
    assert "9 known answers in" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("case", ["as usual", "no newline"])
def test_fine_tunes_that_are_apart(case: str, tmp_path: Path) -> None:
    """A fine-tune of the demo model: its convention is named, and none wrongly."""
    from benchmarks import protocol_detective, trained_apart

    file = trained_apart.write(tmp_path / "data", protocol_detective.IMAGES)
    trained = trained_apart.CASES[case]
    trained_apart.train(trained, file, tmp_path / "made", protocol_detective.STEPS)
    for half in protocol_detective.halves(file):
        asked = DoctorOptions(protocol_of=str(tmp_path / "made"), data=half, device="cpu")
        found = protocol_detective.judged(trained, investigate(asked).verdict)
        assert (found.wrong, found.untold) == ((), ())
        assert "newline" in found.right


def test_too_few_samples_are_refused_before_anything_is_read() -> None:
    with pytest.raises(UserError, match="--samples 6: give 16 or more known answers"):
        investigate(DoctorOptions(protocol_of="nowhere", data=Path("nowhere"), samples=6))
