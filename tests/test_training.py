"""The callback inside a Trainer: training goes on as without it, and the Trainer knows its metrics."""

from __future__ import annotations

import json
import pickle
import runpy
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import live
import numpy as np
import pytest
import stub
import stub_runs
import torch
import transformers
from test_live import adapted, texts

import evalkit
from evalkit import trackers
from evalkit.options.fields import OptionError
from evalkit.training import callback, ranks

KEY = "eval_colours_test/exact_match"


class Lines(torch.utils.data.Dataset[Any]):
    """A few samples to train on, pictures of noise."""

    def __init__(self) -> None:
        rng = np.random.default_rng(3)
        pictures = [rng.integers(0, 256, (28, 28, 3), dtype=np.uint8) for _ in range(8)]
        processor = live.processor()
        self.samples = [
            processor(text=f"<image>what is this {i}", images=p, suffix="a cat", return_tensors="pt",
                      padding="max_length", max_length=32)
            for i, p in enumerate(pictures)
        ]  # fmt: skip

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {key: value[0] for key, value in self.samples[index].items()}


class Tracker(transformers.TrainerCallback):  # type: ignore[misc]
    """Keeps what is logged, as the Trainer's trackers get it."""

    def __init__(self) -> None:
        self.logged: list[tuple[int, dict[str, Any]]] = []

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **known: Any) -> None:
        self.logged.append((state.global_step, dict(logs)))


def trained(model: Any, tmp_path: Path, *callbacks: Any, resume: bool = False, **options: Any) -> Any:
    """A trainer after six steps of this model."""
    settings = {
        "output_dir": str(tmp_path / "my-finetune"), "max_steps": 6, "per_device_train_batch_size": 2,
        "logging_steps": 1, "learning_rate": 1e-2, "report_to": [], "use_cpu": True, "seed": 11,
        "save_strategy": "no", "disable_tqdm": True, **options,
    }  # fmt: skip
    trainer = transformers.Trainer(
        model=model, args=transformers.TrainingArguments(**settings), train_dataset=Lines(),
        eval_dataset=Lines(), processing_class=live.processor(), callbacks=list(callbacks),
    )  # fmt: skip
    trainer.train(resume_from_checkpoint=resume)
    return trainer


def made(tmp_path: Path, **options: Any) -> evalkit.TrainerCallback:
    task = (
        live.task(tmp_path / "data")
        if not (tmp_path / "data").exists()
        else tmp_path / "data/colours_test.yaml"
    )
    options = {"output_path": tmp_path / "results", **options}
    return evalkit.TrainerCallback(tasks=task, data_root=tmp_path / "data", **options)


def noisy(kind: str) -> Any:
    """A model whose training draws random numbers: dropout in attention or in the adapter."""
    transformers.set_seed(0)
    model = live.model()
    for module in model.modules():
        if hasattr(module, "attention_dropout"):
            module.attention_dropout = 0.3
    return adapted(model) if kind in ("adapter", "adapter and checkpointing") else model


@pytest.mark.parametrize("kind", ["whole", "checkpointing", "adapter", "adapter and checkpointing"])
def test_training_goes_on_bit_for_bit(kind: str, tmp_path: Path) -> None:
    checkpointing = "checkpointing" in kind
    without, with_it = (
        trained(noisy(kind), tmp_path / name, *calls, gradient_checkpointing=checkpointing,
                gradient_accumulation_steps=2)
        for name, calls in (("without", []), ("with", [made(tmp_path, every=1, limit=4)]))
    )  # fmt: skip
    losses = [[(e["step"], e["loss"], e["grad_norm"]) for e in t.state.log_history if "loss" in e]
              for t in (without, with_it)]  # fmt: skip
    assert len(losses[0]) == 6
    assert losses[0] == losses[1]
    one, two = without.model.state_dict(), with_it.model.state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert len(evalkit.load(tmp_path / "results")) == 6
    assert with_it.model.training


def test_the_last_runs_texts_are_those_of_the_saved_model(tmp_path: Path) -> None:
    trainer = trained(live.model(), tmp_path, made(tmp_path, every=4))
    trainer.save_model(tmp_path / "saved")
    after = evalkit.run(
        tmp_path / "saved", tmp_path / "data/colours_test.yaml", data_root=tmp_path / "data",
        output_path=tmp_path / "after",
    )  # fmt: skip
    found = {run.model: run for run in evalkit.load(tmp_path / "results")}
    assert set(found) == {"my-finetune-checkpoint-4", "my-finetune-checkpoint-6"}  # and the last step
    assert texts([found["my-finetune-checkpoint-6"]]) == texts(after)
    assert texts([found["my-finetune-checkpoint-4"]]) != texts(after)


def test_metrics_reach_the_trackers_and_the_history(tmp_path: Path) -> None:
    before, after = Tracker(), Tracker()
    before.__class__ = type("Before", (Tracker,), {})  # the Trainer warns of two of a class
    trainer = trained(live.model(), tmp_path, before, made(tmp_path, every=3), after)
    assert before.logged == after.logged
    ours = {step: logs for step, logs in before.logged if KEY in logs}
    assert set(ours) == {3, 6}
    counts = {"eval_colours_test/n", "eval_colours_test/n_of", "eval_evalkit/improvements"}
    assert set(ours[3]) == {KEY, f"{KEY}_low", f"{KEY}_high", "epoch", *counts}
    assert [ours[3][f"eval_colours_test/n{of}"] for of in ("", "_of")] == [20, 20]
    history = [e for e in trainer.state.log_history if KEY in e]
    assert [(e["step"], e["epoch"]) for e in history] == [(3, 0.75), (6, 1.5)]
    value = evalkit.load(tmp_path / "results")[0].scores["exact_match"].value
    assert history[0][KEY] == value
    assert [step for step, logs in before.logged if "loss" in logs] == [1, 2, 3, 4, 5, 6]


class Says:
    """Makes the callback's scores what a test wants: `right` of the 20 answers are."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, right: dict[int, int]) -> None:
        from evalkit.models.paligemma import live as backend

        def predict(model: Any, requests: Any, on_bad_image: Any = None) -> Any:
            step = len(asked)
            asked.append(step)
            for i, (request, found) in enumerate(zip(requests, plain(model, requests), strict=True)):
                good = i < list(right.values())[step]
                text = ("red" if int(request.id[1]) % 2 else "blue") if good else "no"
                yield evalkit.types.Prediction(
                    request.id, request.prompt, text, image_digests=found.image_digests, sizes=found.sizes
                )

        asked: list[int] = []

        def plain(model: Any, requests: Any) -> list[Any]:
            found = {p.id: p for p in inner(model, requests)}
            return [found[r.id] for r in requests]

        inner = backend.Live.predict
        monkeypatch.setattr(backend.Live, "predict", predict)


def test_the_best_checkpoint_is_that_of_the_metric(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Says(monkeypatch, {2: 5, 4: 15, 6: 10})
    trainer = trained(
        live.model(), tmp_path, made(tmp_path), eval_strategy="steps", eval_steps=2, save_strategy="steps",
        save_steps=2, load_best_model_at_end=True, metric_for_best_model="colours_test/exact_match",
    )  # fmt: skip
    assert trainer.state.best_metric == 0.75
    assert Path(trainer.state.best_model_checkpoint).name == "checkpoint-4"
    state = json.loads((tmp_path / "my-finetune/checkpoint-6/trainer_state.json").read_text())
    assert [e[KEY] for e in state["log_history"] if KEY in e] == [0.25, 0.75, 0.5]


def test_training_ends_without_a_significant_improvement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One more right answer of twenty is noise; fifteen are not."""
    Says(monkeypatch, {1: 2, 2: 17, 3: 18, 4: 19, 5: 20, 6: 20})
    given = made(tmp_path, every=1, patience=2)
    trainer = trained(live.model(), tmp_path, given)
    assert trainer.state.global_step == 4
    assert given.best.runs.name == "my-finetune-checkpoint-2"


class Steps:
    """An evaluator of 400 samples in a training whose steps are wrong at these shares of them."""

    def __init__(self, shares: dict[int, float], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        task = stub.colours(folder / "data", images=200)
        task.rename(task.with_name("colours_test.yaml"))
        self.folder, self.model, self.step = folder, live.model(), 0
        self.asked: dict[int, int] = dict.fromkeys(shares, 0)

        def predict(model: Any, requests: Any, on_bad_image: Any = None) -> Any:
            self.asked[self.step] += len(requests)
            yield from stub.Stub(stub_runs.wrong_at(shares[self.step], self.step)).predict(requests)

        monkeypatch.setattr(evalkit.models.paligemma.live.Live, "predict", predict)

    def weights(self, step: int) -> None:
        self.step = step
        with torch.no_grad():
            self.model.lm_head.weight += 1

    def each(self, given: evalkit.TrainerCallback, most: int = 100, **args: Any) -> Any:
        """Calls the callback at each step, as a Trainer does, until it ends the training."""
        told = {"metric_for_best_model": None, **args}
        state = SimpleNamespace(global_step=0, max_steps=most, epoch=None, log_history=[])
        control = SimpleNamespace(should_training_stop=False)
        for step in self.asked:
            self.weights(step)
            state.global_step = step
            given.on_step_end(
                SimpleNamespace(**told), state, control, model=self.model, processing_class=live.processor()
            )
            if control.should_training_stop:
                break
        return state


@pytest.fixture
def sequence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[int, float]], Steps]:
    return lambda shares: Steps(shares, tmp_path, monkeypatch)


def test_evaluations_end_as_soon_as_they_are_decided(sequence: Any, tmp_path: Path) -> None:
    """A worse checkpoint costs few samples; a better one goes on to its end, and is the best from then on.
    Where one is stopped, the metrics are nevertheless those of all samples, nearly."""
    trained = sequence({1: 0.9, 2: 0.2, 3: 0.9, 4: 0.8})
    given = made(tmp_path, every=1)
    evaluate, scores, metrics = given.evaluator, [], []
    for step in trained.asked:
        trained.weights(step)
        scores.append(evaluate(trained.model, step, live.processor())[0].scores["exact_match"])
        metrics.append({key.partition("/")[2]: value for key, value in evaluate.metrics.items()})
    assert list(trained.asked.values()) == [400, 400, 64, 64]
    assert [s.coverage for s in scores] == ["all", "all", "early", "early"]
    assert [m["n"] for m in metrics] == list(trained.asked.values())
    assert {m["n_of"] for m in metrics} == {400}
    assert given.best.runs.name == "live-checkpoint-2"
    assert (given.best.improvements, given.best.since) == (2, 2)
    (whole,) = evaluate(trained.model, 4, live.processor(), whole=True)
    assert trained.asked[4] == 400
    stopped, all_of_it = metrics[3], whole.scores["exact_match"].value
    assert stopped["exact_match_low"] < all_of_it < stopped["exact_match_high"]
    assert stopped["exact_match"] < metrics[1]["exact_match"]
    assert evaluate.metrics["colours_test/exact_match"] == all_of_it
    assert (given.best.improvements, given.best.since) == (2, 2)  # the same evaluation, not one more


def test_the_last_of_a_training_has_all_samples(sequence: Any, tmp_path: Path) -> None:
    ended = sequence({1: 0.2, 2: 0.9, 3: 0.9})
    given = made(tmp_path, every=1, patience=2)
    state = ended.each(given)
    assert list(ended.asked.values()) == [400, 64, 400]
    assert [entry["eval_colours_test/n"] for entry in state.log_history] == [400, 64, 400]
    assert given.best.since == 2


def test_the_last_step_is_not_stopped_nor_what_is_not_to_be(sequence: Any, tmp_path: Path) -> None:
    last = sequence({1: 0.2, 2: 0.9})
    last.each(made(tmp_path, every=1), most=2)
    assert list(last.asked.values()) == [400, 400]
    last.asked = dict.fromkeys(last.asked, 0)
    last.each(made(tmp_path, every=1, until_decided=False, output_path=tmp_path / "all"))
    assert list(last.asked.values()) == [400, 400]


def test_what_another_metric_chooses_is_not_stopped_by_the_first(sequence: Any, tmp_path: Path) -> None:
    trained = sequence({1: 0.2, 2: 0.9})
    state = trained.each(made(tmp_path, every=1), metric_for_best_model="colours_test/exact_match_low")
    assert list(trained.asked.values()) == [400, 400]
    trained.asked = dict.fromkeys(trained.asked, 0)
    again = made(tmp_path, every=1, output_path=tmp_path / "again")
    state = trained.each(again, metric_for_best_model=KEY)
    assert list(trained.asked.values()) == [400, 64]
    assert state.log_history[1][KEY] < state.log_history[0][KEY]


def test_the_best_checkpoint_by_significant_improvements(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One more right answer of twenty has the higher value, and is no reason to keep another checkpoint."""
    Says(monkeypatch, {2: 2, 4: 18, 6: 19})
    trainer = trained(
        live.model(), tmp_path, made(tmp_path), eval_strategy="steps", eval_steps=2, save_strategy="steps",
        save_steps=2, load_best_model_at_end=True, metric_for_best_model="evalkit/improvements",
    )  # fmt: skip
    assert Path(trainer.state.best_model_checkpoint).name == "checkpoint-4"
    assert trainer.state.best_metric == 2


def test_a_resumed_training_goes_on_with_its_best(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a count of its own the next improvement would not be the Trainer's best: that knows of one."""
    Says(monkeypatch, {2: 3, 4: 2, 6: 19})
    options: dict[str, Any] = {
        "eval_strategy": "steps", "eval_steps": 2, "save_strategy": "steps", "save_steps": 2,
        "metric_for_best_model": "evalkit/improvements",
    }  # fmt: skip
    trained(live.model(), tmp_path, made(tmp_path), max_steps=4, **options)
    given = made(tmp_path)
    trainer = trained(live.model(), tmp_path, given, resume=True, **options)
    key = "eval_evalkit/improvements"
    told = {entry["step"]: entry[key] for entry in trainer.state.log_history if key in entry}
    assert told == {2: 1, 4: 1, 6: 2}
    assert Path(trainer.state.best_model_checkpoint).name == "checkpoint-6"
    assert (given.best.name, given.best.since) == ("my-finetune-checkpoint-6", 0)


def test_without_patience_nothing_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Says(monkeypatch, dict.fromkeys(range(1, 7), 4))
    assert trained(live.model(), tmp_path, made(tmp_path, every=1)).state.global_step == 6


@pytest.mark.parametrize("where", ["model", "data"])
def test_a_fault_is_told_and_training_goes_on(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = made(tmp_path, every=2)
    if where == "model":
        monkeypatch.setattr(type(given.evaluator), "_evaluate", lambda *a: 1 / 0)
    else:
        (tmp_path / "data/colours.jsonl").write_text("{")
    without = trained(live.model(), tmp_path / "without")
    with_it = trained(live.model(), tmp_path, given)
    assert [e["loss"] for e in with_it.state.log_history if "loss" in e] == [
        e["loss"] for e in without.state.log_history if "loss" in e
    ]
    said = capsys.readouterr().err
    assert said.count("not evaluated, training goes on: ") == 3
    assert ("ZeroDivisionError" if where == "model" else "colours.jsonl") in said


def test_strict_ends_it(tmp_path: Path) -> None:
    given = made(tmp_path, every=2, strict=True)
    (tmp_path / "data/colours.jsonl").write_text("{")
    with pytest.raises(evalkit.errors.UserError, match=r"colours\.jsonl"):
        trained(live.model(), tmp_path, given)


def test_a_failed_evaluation_is_not_the_best(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = made(tmp_path)
    (tmp_path / "data/colours.jsonl").write_text("{")
    trainer = trained(
        live.model(), tmp_path, given, eval_strategy="steps", eval_steps=3, save_strategy="best",
        metric_for_best_model=KEY,
    )  # fmt: skip
    assert trainer.state.global_step == 6
    assert trainer.state.best_model_checkpoint is None
    assert f"step 3: has no {KEY}" in capsys.readouterr().err


def test_a_wrong_metric_is_named_with_the_right_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained(live.model(), tmp_path, made(tmp_path), eval_strategy="steps", eval_steps=6,
            metric_for_best_model="colours_test/exact_mach")  # fmt: skip
    assert f"exact_mach: no such metric; did you mean {KEY}?" in capsys.readouterr().err


def test_every_epoch(tmp_path: Path) -> None:
    trained(live.model(), tmp_path, made(tmp_path, every="epoch", limit=2))
    assert {r.model[-1] for r in evalkit.load(tmp_path / "results")} == {"4", "6"}


@pytest.mark.parametrize("wrong", [{"every": 0}, {"every": "step"}, {"every": 0.5}, {"patience": 0}])
def test_wrong_options_are_said_before_training(wrong: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(evalkit.errors.UserError, match=next(iter(wrong))):
        made(tmp_path, **wrong)


def test_without_a_trainer_it_says_that_there_are_no_trackers(capsys: pytest.CaptureFixture[str]) -> None:
    assert callback._handler() is None
    assert "trackers are not found" in capsys.readouterr().err


def test_the_example_trains_and_finds_the_same_number_afterwards(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main = runpy.run_path(str(Path(__file__).parent.parent / "examples" / "finetune.py"))["main"]
    value = main(tmp_path, steps=2, every=1, limit=3, batch=2)
    said = capsys.readouterr().out
    best = max(float(line.split()[-1]) for line in said.splitlines() if line.startswith("step "))
    assert best == pytest.approx(value, abs=5e-4)
    assert "by evalkit run" in said


def test_the_example_says_what_it_does_and_starts_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(__file__).parent.parent / "examples" / "finetune.py"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(path), "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(path), run_name="__main__")
    assert ended.value.code == 0
    assert "Fine-tunes the embedded checkpoint" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def two_processes(folder: Path, what: str) -> list[tuple[int, str]]:
    """The exit statuses of two processes, and what they said."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        (folder / "port").write_text(str(free.getsockname()[1]))
    script = Path(__file__).parent / "two_processes.py"
    both = [
        subprocess.Popen([sys.executable, script, str(rank), folder, what], stderr=subprocess.PIPE, text=True)
        for rank in (0, 1)
    ]
    said = [process.communicate(timeout=240)[1] for process in both]
    return [(process.returncode, text) for process, text in zip(both, said, strict=True)]


def told(folder: Path) -> list[dict[str, Any]]:
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)]


def test_two_processes_share_the_samples(tmp_path: Path) -> None:
    """In their first evaluation the second process fails, which is said on both, and nobody waits."""
    live.task(tmp_path / "data")
    ended = two_processes(tmp_path, "train")
    assert [status for status, _ in ended] == [0, 0], ended
    first, second = told(tmp_path)
    asked = [each.pop("asked") for each in (first, second)]
    assert first["processes"] == 2
    assert first == second
    assert first["errors"] == ["process 1: MemoryError: no memory here"]
    assert [len(each) for each in asked] == [20, 20]  # half of 20 samples, twice
    assert set(asked[0]).isdisjoint(asked[1])
    assert set(first["metrics"]) == {"2", "4", "6"}
    assert all(KEY in metrics for metrics in first["metrics"].values())
    assert ["colours_test: exact_match" in text for _, text in ended] == [True, False]
    shared = {run.model: run for run in evalkit.load(tmp_path / "results")}["own-checkpoint-2"]
    (tmp_path / "results").rename(tmp_path / "shared")
    (alone,) = made(tmp_path, processor=live.processor(), name="own").evaluator(live.model(), 2)
    assert texts([alone]) == texts(evalkit.load(tmp_path / "shared" / shared.folder.name))
    assert alone.scores["exact_match"].value == first["score"]


def test_a_model_that_is_refused_keeps_nobody_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first process tells the others of it, so each of them must listen before it refuses itself."""

    class FullyShardedDataParallel(torch.nn.Module):
        module: torch.nn.Module

    class Second:
        rank = 1

        def follow(self, checkpoint: Any) -> Any:
            with pytest.raises(evalkit.errors.ModelError, match="spread over processes"):
                checkpoint()
            raise evalkit.errors.ModelError("what the first process says")

    monkeypatch.setattr(ranks, "several", lambda: True)
    monkeypatch.setattr(ranks, "Ranks", Second)
    model = FullyShardedDataParallel()
    model.module = live.model()
    evaluate = made(tmp_path, processor=live.processor()).evaluator
    with pytest.raises(evalkit.errors.ModelError, match="what the first"):
        evaluate(model, 1)


@pytest.mark.slow
def test_a_process_that_dies_is_noticed(tmp_path: Path) -> None:
    live.task(tmp_path / "data")
    ended = two_processes(tmp_path, "die")
    assert ended[1][0] == 9
    assert ended[0][0] != 9
    assert "Connection" in ended[0][1]


@pytest.mark.parametrize(
    "error",
    [
        evalkit.errors.TasksFailed({"a": evalkit.errors.DataError("why")}, [1], 2),
        evalkit.errors.MetricsFailed("why", [0.5]),
        evalkit.errors.ModelError("why"),
        OptionError("limit", 0, "is below 1"),
    ],
)
def test_errors_reach_other_processes(error: Exception) -> None:
    there = pickle.loads(pickle.dumps(ranks.portable(error)))
    assert type(there) in (type(error), evalkit.errors.UserError)
    assert str(there) == str(error)
    if type(there) is type(error):
        assert {k: v for k, v in vars(there).items() if k != "failures"} == {
            k: v for k, v in vars(error).items() if k != "failures"
        }


def test_a_trainers_own_trackers_get_the_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Kept:
        told: ClassVar[list[tuple[Any, bool]]] = []

        def tell(self, told: Any, numbers: bool = True) -> None:
            self.told.append((told, numbers))

        def close(self) -> None:
            self.told.append((None, False))

    monkeypatch.setattr(trackers, "opened", lambda name, folder: Kept())
    given = made(tmp_path, every=3)
    given.evaluator.report_to(["tensorboard", "clearml"])  # as of the Trainer's report_to
    monkeypatch.setattr(given.evaluator, "report_to", lambda others: None)
    trained(live.model(), tmp_path, given)
    assert [t and (t.series, t.step, len(t.samples), n) for t, n in Kept.told] == [
        ("my-finetune", 3, 10, False), ("my-finetune", 6, 10, False), None,
    ]  # fmt: skip
    monkeypatch.setattr(trackers, "refuse_missing", lambda names: None)
    given = made(tmp_path, every=6, report_to="mlflow")
    trained(live.model(), tmp_path / "again", given)
    assert [numbers for _, numbers in Kept.told[3:]] == [True, False]
