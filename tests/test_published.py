"""The published numbers beside our own: the file, matching by name, the table's columns, the causes."""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
from stub import colours
from stub_runs import as_schema_1, go, wrong_at

from evalkit.cli.main import main
from evalkit.errors import UserError
from evalkit.published import facts as published_facts
from evalkit.published import numbers as published_numbers
from evalkit.published.numbers import Published
from evalkit.report import explain, published
from evalkit.report.leaderboard import Cell
from evalkit.tasks import loader
from evalkit.types import Score

ANLS = "anls(threshold=0.5, lowercase=True)"
# numbers of the papers that no task here computes: they carry a reason and no score
FOREIGN = {"embedding_similarity", "human_non_entailment"}


def row(task: str, metric: str, model: str, resolution: int, kind: str = "transfer", part: str = "") -> Any:
    named = published_numbers.Named(model, kind)
    return published_numbers.match(task, named, resolution, metric, part)[0]


def test_every_row_fits_its_task() -> None:
    """Left out of 646 transcribed numbers are 6, the lengths of DOCCI's texts: results/README.md."""
    rows = published_numbers.load()
    assert len(rows) == 640
    known = {name: loader.load(name) for name in {r.task for r in rows}}
    for r in rows:
        task = known[r.task]
        assert r.differs or r.split == task.data.split, r
        assert r.metric in task.metrics or not task.metrics or r.metric in FOREIGN, r
        assert r.metric not in FOREIGN or r.differs, r
        assert 0 < r.score < (2 if r.metric == "cider" else 1), r
        assert r.stdev is None or r.stdev < 0.05, r
        assert r.resolution in (224, 448, 896)
        assert task.metrics or r.differs, f"{r}: is not scored here, and the row doesn't say why"


def test_no_two_rows_are_the_same_number() -> None:
    counts = Counter(
        (r.task, r.metric, r.part, r.model, r.kind, r.resolution, r.source) for r in published_numbers.load()
    )
    assert [key for key, n in counts.items() if n > 1] == []


@pytest.mark.parametrize(
    ("found", "score", "stdev"),
    [
        (row("cococap_val", "cider", "paligemma-3b", 448), 1.446, 0.005),
        (row("xm3600_test", "cider", "paligemma-3b", 224), 0.419, 0.0),
        (row("coco35l_dev", "cider", "paligemma-3b", 224, part="mean of all 35 groups"), 1.164, None),
        (row("countbenchqa_540_test", "exact_match(normalise='count')", "paligemma-3b", 224), 0.819, 0.016),
        (row("docvqa_val", ANLS, "paligemma2-3b", 224), 0.399, 0.003),
        (row("docvqa_test", ANLS, "paligemma-3b", 224), 0.437, 0.005),
        (row("vizwiz_val", "vqa_accuracy(variant='plain')", "paligemma-3b", 224), 0.764, None),
        (row("refcoco_unc_seg_testA", "mask_iou", "paligemma-3b", 224), 0.757, 0.001),
        (row("scicap_test", "bleu(n=4)", "paligemma-3b", 224), 0.192, None),
        (row("pope_test", "yes_no", "paligemma-3b", 224), 0.86, None),
        (row("pope_test", "yes_no", "paligemma-3b", 224, "mix", "random"), 0.88, None),
        (row("grandstaff_test", "error_rates(kind='ler')", "paligemma2-3b", 896), 0.067, None),
        (row("ocrvqa_test", "exact_match(lowercase=True)", "paligemma-3b", 224), 0.723, 0.004),
        (row("icdar15_words_test", "hiertext_f1", "paligemma2-3b", 896, part="recall"), 0.707, None),
    ],
    ids=lambda v: f"{v.task}-{v.resolution}" if isinstance(v, Published) else "",
)
def test_numbers_as_printed(found: Published, score: float, stdev: float | None) -> None:
    assert (found.score, found.stdev) == (score, stdev)


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("google/paligemma-3b-ft-docvqa-448", ("paligemma-3b", "transfer", "docvqa", 448)),
        ("paligemma-3b-ft-rsvqa-lr-224-jax", ("paligemma-3b", "transfer", "rsvqalr", 224)),
        ("google__paligemma2-10b-mix-448", ("paligemma2-10b", "mix", "", 448)),
        ("paligemma-3b-mix-448-4bit", ("paligemma-3b", "mix", "", 448)),
        ("paligemma-3b-pt-896 [float32, paper]", ("paligemma-3b", "pt", "", 896)),
    ],
)
def test_names_of_checkpoints(name: str, named: tuple[Any, ...]) -> None:
    assert published_numbers.name(name) == published_numbers.Named(*named)


@pytest.mark.parametrize("name", ["my-finetune", "paligemma-3b", "paligemma-3b-ftune-448", "gemma-3b-pt-224"])
def test_names_that_say_nothing(name: str) -> None:
    assert published_numbers.name(name) is None


@pytest.mark.parametrize(
    ("checkpoint", "task", "metric", "fits"),
    [
        ("paligemma-3b-ft-coco35l-224", "xm3600_test", "cider", True),
        ("paligemma-3b-ft-refcoco-seg-448", "refcocoplus_unc_seg_testA", "mask_iou", True),
        ("paligemma-3b-ft-vizwizvqa-224", "vizwiz_test", "vqa_accuracy", True),
        ("paligemma-3b-ft-vqav2-224", "mmvp_test", "paired_accuracy", True),
        ("paligemma-3b-ft-docvqa-448", "chartqa_human_test", "relaxed_accuracy", False),
        ("paligemma-3b-ft-cococap-224", "coco35l_dev", "cider", False),
    ],
)
def test_a_fine_tune_is_only_laid_beside_its_own_task(
    checkpoint: str, task: str, metric: str, fits: bool
) -> None:
    named = published_numbers.name(checkpoint)
    assert named is not None
    assert bool(published_numbers.match(task, named, None, metric)) is fits


# --- beside a score ---------------------------------------------------------------------------------------


def score(task: str, metric: str, value: float, **more: Any) -> Score:
    n = loader.load(task).data.count or 100
    given = {"n": n, "clusters": n, "coverage": "all", "invalid": 0, **more}
    return Score(task, metric, f"task:{task}|metric:{metric}", value, value - 0.01, value + 0.01, **given)


def file(task: str) -> dict[str, Any]:
    loaded = loader.load(task)
    data = {
        "split": loaded.data.split,
        "count": loaded.data.count,
        "published_count": loaded.data.published_count,
    }
    return {"data": data, "prompt_source": loaded.prompt_source, "not_scored": loaded.not_scored}


def beside(task: str, metric: str, value: float, model: str = "paligemma2-3b", **more: Any) -> Any:
    changed, resolution = more.pop("changed", ()), more.pop("resolution", 224)
    named = published_numbers.name(model) or published_numbers.given(model)
    return published_numbers.beside(
        score(task, metric, value, **more), named, resolution, file(task), changed
    )


@pytest.mark.parametrize(
    ("value", "within"), [(0.399, True), (0.4055, True), (0.3925, True), (0.4056, False), (0.38, False)]
)
def test_within_twice_the_deviation_and_rounding(value: float, within: bool) -> None:
    found = beside("docvqa_val", ANLS, value)  # 0.399 ± 0.003
    assert found.within is within
    assert found.difference == pytest.approx(value - 0.399)


def test_no_deviation_no_verdict() -> None:
    found = beside("docvqa_val", ANLS, 0.378, "paligemma-3b")
    assert (found.difference, found.within) == (0, None)


@pytest.mark.parametrize(
    ("task", "metric", "more", "why"),
    [
        ("docvqa_val", ANLS, {"coverage": "limited"}, "coverage is limited, not all"),
        ("docvqa_val", ANLS, {"n": 17}, "17 samples, officially 5,349"),
        ("docvqa_val", ANLS, {"changed": ("prompt",)}, "changed on the command line: prompt"),
        ("docvqa_val", ANLS, {"model": "paligemma-3b-ft-docvqa-224"}, "was trained on this split too"),
        ("docvqa_val", ANLS, {"model": "paligemma2-3b-mix-224"}, "nothing published for paligemma2-3b mix"),
        ("docvqa_val", ANLS, {"model": "paligemma-3b-ft-chartqa-224"}, "fine-tuned on chartqa; the papers"),
        ("docvqa_val", "exact_match", {}, "not published; what is: anls(threshold=0.5, lowercase=True)"),
        ("okvqa_val", "vqa_accuracy(variant='plain')", {"resolution": 896}, "at 224, 448 px, this is 896"),
        ("custom_vqa", "exact_match", {}, "nothing is published for this task"),
        (
            "refcoco_unc_val",
            "box_iou",
            {},
            "nothing is published for this task; there is for refcoco_unc_seg_val",
        ),
        ("vqav2_val", "vqa_accuracy", {}, "nothing is published for this task; there is for vqav2_minival"),
        ("widgetcap_dev", "cider", {"model": "paligemma-3b-ft-widgetcap-224"}, "trained on this split too"),
        ("stvqa_val", ANLS, {}, "whose list is not public"),
        ("vqav2_minival", "vqa_accuracy", {}, "cannot be checked"),
        ("coco_detection_val2017", "coco_ap(rank='class')", {}, "does not name the split"),
        ("vsr_random_test", "exact_match", {}, "prompt was never published"),
        ("countbenchqa_540_test", "exact_match(normalise='count')", {}, "540 or 490"),
        ("msvd_qa_test", "exact_match", {"model": "paligemma-3b"}, "13,157 samples, published on 10,136"),
        ("vatex_test", "cider", {"n": 5000, "coverage": "incomplete"}, "coverage is incomplete"),
    ],
)
def test_what_is_not_compared(task: str, metric: str, more: dict[str, Any], why: str) -> None:
    found = beside(task, metric, 0.5, **more)
    assert why in found.why_not
    assert found.difference is None
    assert found.within is None


def test_as_many_as_the_papers_had_are_compared_and_it_is_said() -> None:
    found = beside("msrvtt_cap_test", "cider", 0.71, "paligemma-3b", n=2094)
    assert found.difference == pytest.approx(0.71 - 0.705)
    assert found.note == published_numbers.AS_MANY
    one = Cell(
        score("msrvtt_cap_test", "cider", 0.71, n=2094), "r", "paligemma-3b-ft-msrvtt-cap-224", (), (), 224,
        None, file("msrvtt_cap_test"),
    )  # fmt: skip
    assert "one run of five; as many samples as published; whether" in published.table([one], "md", None)
    (record,) = json.loads(published.table([one], "json", None))
    assert record["note"] == published_numbers.AS_MANY
    text = causes("msrvtt_cap_test", "cider", "paligemma-3b", n=2094)
    assert "? count        2,094 (officially 2,990), as many samples as published" in text
    text = causes("msrvtt_cap_test", "cider", "paligemma-3b")
    assert "≠ count        2,990 samples (officially 2,990); published on 2,094, a list that isn't" in text


def test_a_wrong_split_is_named() -> None:
    told = {"data": {"split": "test", "count": None}}
    named = published_numbers.given("paligemma2-3b")
    found = published_numbers.beside(score("docvqa_val", ANLS, 0.4), named, 224, told)
    assert found.why_not == "published on val, this is test"


def cells() -> list[Cell]:
    one = score("docvqa_val", ANLS, 0.401)
    groups = {g: {"value": 0.9, "n": 3000, "invalid": 0} for g in ("random", "popular", "adversarial")}
    two = score("pope_test", "yes_no", 0.9, groups=groups)
    three = score("docvqa_test", "–", float("nan"))
    return [
        Cell(one, "r1", "mine", (), (), 224, None, file("docvqa_val")),
        Cell(two, "r2", "paligemma-3b-mix-224", (), (), 224, None, file("pope_test")),
        Cell(three, "r3", "paligemma-3b-ft-docvqa-224", (), (), 224, None, file("docvqa_test"), "no answers"),
    ]


def test_the_table_in_its_forms() -> None:
    text = published.table(cells(), "md", None)
    assert "| mine | 224 | 40.1 ±1.0 | n/a | n/a | n/a | the checkpoint is not named" in text
    assert "| yes_no [random] | paligemma-3b-mix-224 | 224 | 90.0 | 88.0 | +2.0 | – |" in text
    assert "| not scored | 43.7 ±0.5 | n/a | n/a | not scored, because no answers |" in text
    text = published.table(cells()[:1], "terminal", "paligemma2-3b")
    assert max(map(len, text.split("\n\n")[0].splitlines())) <= 100
    values, rest = text.split("\n\n")[:2]
    assert re.search(r"40\.1 ±1\.0 +39\.9 ±0\.3 +\+0\.2", values)
    assert re.search(r"yes +\[1\]", rest)
    assert "\n[1] arXiv:2412.03555 table 13" in text
    (record,) = json.loads(published.table(cells()[:1], "json", "paligemma2-3b"))
    assert (record["published"], record["within"]) == (0.399, True)
    lines = list(csv.DictReader(io.StringIO(published.table(cells(), "csv", None))))
    assert [line["part"] for line in lines] == ["", "", "", "adversarial", "popular", "random"]
    for form in ("html", "latex"):
        assert "88.0" in published.table(cells(), form, None)
    page = published.table(cells(), "html", None)  # a whole page, as the other tables' are
    assert page.startswith("<!doctype html>")
    assert "<th>published</th>" in page


# --- the command line -------------------------------------------------------------------------------------


def test_published_lists(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["published"]) == 0
    assert "docvqa_val                  13 numbers" in capsys.readouterr().out
    for what in ("docvqa_val", "paligemma2-28b", "google/paligemma-3b-mix-224", "refcoco"):
        assert main(["published", what]) == 0
        assert "arXiv" in (out := capsys.readouterr().out) or "README" in out
    assert main(["published", "no-such"]) == 2
    assert "nothing is published for it; models: paligemma-3b," in capsys.readouterr().err
    assert main(["published", "docvqa_vall"]) == 2
    assert "did you mean docvqa_val," in capsys.readouterr().err


def test_table_and_explain(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    task = colours(tmp_path / "data")
    one = go(task, tmp_path / "out", "paligemma-3b-mix-224", wrong_at(0.1))
    two = go(task, tmp_path / "out", "b", wrong_at(0.3))
    part = go(task, tmp_path / "part", "c", wrong_at(0.3), limit=3, overrides={"prompt": "{question}"})
    runs = str(tmp_path / "out")
    assert main(["table", runs, "--published"]) == 0
    assert "nothing is published for this task" in capsys.readouterr().out
    assert main(["explain", str(part)]) == 0
    out = capsys.readouterr().out
    assert "≠ coverage     limited" in out
    assert "≠ prompt       changed on the command line: prompt={question}" in out
    assert "= protocol     paper" in out
    assert main(["explain", str(one), str(two)]) == 0
    out = capsys.readouterr().out
    assert "comparable; the models differ, first in weights" in out
    assert "{" not in out  # for people: no Python
    assert main(["explain", str(one), str(one)]) == 0
    assert "nothing differs" in capsys.readouterr().out
    assert main(["explain", str(one), str(part)]) == 0
    assert capsys.readouterr().out.startswith("prompt: prompt: 'answer en {question}' against '{question}'")
    for words, sentence in (
        (["table", runs, "--published", "--shape", "wide"], "leave --shape wide out"),
        (["table", runs, "--published", "--format", "lm-eval"], "leave --format lm-eval out"),
        (["table", runs, "--published-model", "gpt"], "nothing is published for it; there are: paligemma-3b"),
        (["explain", str(one), runs], "holds 2 runs; explain A B takes one run each"),
        (["explain", runs, runs, runs], "takes one run, or two"),
        (["explain", str(tmp_path / "none")], "no such folder"),
    ):
        assert main(words) == 2
        err = capsys.readouterr().err
        assert sentence in err
        assert err.count("\n") == 1


def test_what_cannot_be_read_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    one = go(colours(tmp_path / "data"), tmp_path / "out", "m", wrong_at(0.1))
    as_schema_1(one)
    content = json.loads((one / "run.json").read_text())
    del content["task_file"]["data"]
    (one / "run.json").write_text(json.dumps(content))
    assert main(["explain", str(one)]) == 2
    assert "run.json: task_file: data: is missing or damaged" in capsys.readouterr().err
    one = go(tmp_path / "data" / "colours_test.yaml", tmp_path / "out", "m", wrong_at(0.1))
    (one / "scores.json").unlink()
    assert main(["explain", str(one)]) == 2
    assert "is not scored yet; `evalkit score" in capsys.readouterr().err
    (tmp_path / "published.csv").write_text("task,score\na,b\n")
    for place, sentence in (
        (tmp_path / "published.csv", "is damaged"),
        (tmp_path / "no.csv", "No such file"),
    ):
        published_numbers.load.cache_clear()
        with monkeypatch.context() as patch:
            patch.setattr(published_numbers, "place", lambda place=place: place)
            assert main(["published"]) == 2
        assert sentence in capsys.readouterr().err
    published_numbers.load.cache_clear()


def run_of(task: str, model: str) -> dict[str, Any]:
    decode = {"beams": loader.load(task).decode.beams}
    engine = {"dtype": "bfloat16", "kv_dtype": "bfloat16", "protocol": {"sliding_window": 4096}}
    identity = {"protocol": "hf", "model": engine, "task": {"decode": decode}}
    given = file(task) | {"prompt": "p", "overrides": {}}
    return {"name": f"{task}.{model}", "task": task, "model": model, "identity": identity, "task_file": given}


def causes(task: str, metric: str, model: str, **more: Any) -> str:
    run = run_of(task, model)
    cell = Cell(score(task, metric, 0.4, **more), "r", model, (), (), 224, None, run["task_file"])
    return "\n".join(
        explain.reasons(
            run, [cell], None if published_numbers.name(model) else published_numbers.given(model)
        )
    )


def test_every_cause_is_told() -> None:
    text = causes("docvqa_val", ANLS, "paligemma-3b-ft-docvqa-224")
    assert "≠ trained on   the released fine-tune saw this split" in text
    assert "≠ protocol     hf; published with paper" in text
    assert "≠ precision    bfloat16; published with float32" in text
    assert "= kv precision bfloat16" in text
    assert "= beam         1" in text
    assert "≠ window       alternate layers see the last tokens only" in text
    text = causes("docvqa_val", ANLS, "paligemma2-3b", n=100)
    assert "? trained on   published figures of this split are of fine-tunes on train alone" in text
    assert "? fine-tunes   published: the mean of five, deviation 0.3" in text
    assert "≠ count        100 samples, officially 5,349" in text
    text = causes("refcoco_unc_seg_val", "mask_iou", "paligemma-3b", n=8811, coverage="incomplete")
    assert (
        "≠ count        8,811 samples, officially 10,834; 8,811 is objects of unc val (3,811) mixed" in text
    )
    text = causes("vqav2_val", "vqa_accuracy", "paligemma-3b")
    assert "≠ split        the first paper's figures are of the test server, this is val" in text
    text = causes("ocrvqa_test", "exact_match(lowercase=True)", "paligemma-3b")
    assert "published 72.3 ±0.4, difference -32.3, NOT within twice the deviation between runs" in text
    assert "also published: 73.24 (big_vision paligemma/README.md" in text
    assert "one point above the paper's" in text


def test_beams_and_artefacts_name_tasks_that_are() -> None:
    names = loader.names()
    for pattern, facts in published_facts.load().items():
        assert any(fnmatchcase(name, pattern) for name in names), pattern
        assert facts.get("reported_on", names[0]) in names, pattern
    for name in names:
        if not name.startswith(("shapes", "custom", "coco_captions")):
            assert published_facts.beams(name) == loader.load(name).decode.beams, name


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("docvqa_*: {beam: 2}", "docvqa_*: beam: unknown key; did you mean beams"),
        ("docvqa_*: {beams: two}", "docvqa_*: beams: is text, must be a whole number"),
        ("docvqa_*: cut", "docvqa_*: is text, must be a mapping"),
    ],
)
def test_artefacts_are_read_strictly(
    text: str, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "artefacts.yaml").write_text(text)
    monkeypatch.setattr(published_facts, "folder", lambda: tmp_path)
    with pytest.raises(UserError, match=re.escape(f"results/artefacts.yaml: {sentence}")):
        published_facts.load.__wrapped__()
