"""A model in memory: its answers are those of its saved checkpoint, and evaluating it leaves no trace."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import live
import numpy as np
import pytest
import torch

import evalkit
from evalkit.errors import UserError


def texts(runs: evalkit.api.Runs) -> dict[str, str]:
    return {line["id"]: line["text"] for run in runs for line in run.folder.read_rows()}


def evaluator(tmp_path: Path, **options: Any) -> evalkit.Evaluator:
    task = live.task(tmp_path / "data")
    options = {"processor": live.processor(), "output_path": tmp_path / "results", **options}
    return evalkit.Evaluator(task, data_root=tmp_path / "data", **options)


def saved(model: Any, tmp_path: Path, **options: Any) -> evalkit.api.Runs:
    """The same task, run as a person does on the saved checkpoint."""
    model.save_pretrained(tmp_path / "checkpoint-7")
    live.processor().save_pretrained(tmp_path / "checkpoint-7")
    return evalkit.run(
        tmp_path / "checkpoint-7", tmp_path / "data/colours_test.yaml", data_root=tmp_path / "data",
        output_path=tmp_path / "saved", **options,
    )  # fmt: skip


@pytest.mark.parametrize("family", [1, 2])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("protocol", ["paper", "hf"])
def test_texts_and_scores_are_those_of_the_saved_checkpoint(
    family: int, dtype: str, protocol: str, tmp_path: Path
) -> None:
    model = live.model(family, dtype=dtype)
    runs = evaluator(tmp_path, protocol=protocol)(model, 7)
    theirs = saved(model, tmp_path, protocol=protocol, dtype=dtype, engine="plain")
    assert len(set(texts(runs).values())) > 1
    assert texts(runs) == texts(theirs)
    assert runs[0].scores["exact_match"] == theirs[0].scores["exact_match"]
    assert runs[0].folder.name.startswith("colours_test.live-checkpoint-7.")


def test_the_fast_engine_reads_the_same_from_the_saved_checkpoint(tmp_path: Path) -> None:
    model = live.model()
    assert texts(evaluator(tmp_path)(model, 7)) == texts(saved(model, tmp_path))


def adapted(model: Any, checkpointing: bool = False) -> Any:
    """The model with a LoRA adapter that says something: B is not zero."""
    import peft

    config = peft.LoraConfig(
        r=4, lora_alpha=16, lora_dropout=0.5, target_modules=["q_proj", "v_proj", "o_proj", "linear"],
        modules_to_save=["multi_modal_projector"] if checkpointing else None,
    )  # fmt: skip
    if checkpointing:
        model.gradient_checkpointing_enable()
        model.enable_input_require_grads()
    made = peft.get_peft_model(model, config)
    torch.manual_seed(5)
    with torch.no_grad():
        for name, weight in made.named_parameters():
            if "lora_B" in name:
                weight.normal_(0, 0.1)
    return made.train()


@pytest.mark.parametrize("checkpointing", [False, True])
def test_an_adapter_is_run_in_its_place_and_reads_as_the_merged_one(
    checkpointing: bool, tmp_path: Path
) -> None:
    """Not merged: the layers add it to their product, with other rounding than the saved checkpoint's."""
    model = adapted(live.model(), checkpointing)
    runs = evaluator(tmp_path)(model, 7)
    live.processor().save_pretrained(tmp_path / "adapter")
    model.save_pretrained(tmp_path / "adapter")
    theirs = evalkit.run(
        tmp_path / "adapter", tmp_path / "data/colours_test.yaml", data_root=tmp_path / "data",
        output_path=tmp_path / "saved", base=str(live.tiny.checkpoint(1)),
    )  # fmt: skip
    assert texts(runs) == texts(theirs)
    assert texts(runs) != texts(evaluator(tmp_path / "base")(live.model(), 7)), "the adapter changes nothing"


def state(model: Any) -> dict[str, Any]:
    """All that an evaluation could change of a training."""
    configs = {id(m.config): m.config for m in model.modules() if hasattr(m, "config")}
    backends = torch.backends
    return {
        "modes": [m.training for m in model.modules()],
        "grads": [p.requires_grad for p in model.parameters()],
        "gradients": [None if p.grad is None else p.grad.sum().item() for p in model.parameters()],
        "python": random.getstate(),
        "numpy": [str(part) for part in np.random.get_state()],
        "torch": torch.get_rng_state().tolist(),
        "grad": torch.is_grad_enabled(),
        "inference": torch.is_inference_mode_enabled(),
        "threads": torch.get_num_threads(),
        "products": torch.get_float32_matmul_precision(),
        "precision": [
            backends.cudnn.conv.fp32_precision, backends.cudnn.rnn.fp32_precision, backends.cudnn.allow_tf32,
            backends.mkldnn.conv.fp32_precision, backends.mkldnn.matmul.fp32_precision,
            backends.cuda.matmul.fp32_precision, backends.cuda.cudnn_sdp_enabled(),
            backends.cuda.matmul.allow_fp16_reduced_precision_reduction,
        ],
        "configs": [c.to_dict() for c in configs.values()],
        "attention": [c._attn_implementation for c in configs.values()],
        "windows": [getattr(m, "sliding_window", None) for m in model.modules()],
        "bytes": sum(t.numel() for t in model.state_dict().values()),
        "attributes": {n: set(vars(m)) for n, m in model.named_modules()},
        "hooks": [len(m._forward_hooks) for m in model.modules()],
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["whole", "adapter", "checkpointing", "Gemma 2", "frozen tower", "raises"])
def test_nothing_of_the_training_changes(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = live.model(2 if kind == "Gemma 2" else 1, attn_implementation="eager")
    if kind in ("adapter", "checkpointing"):
        model = adapted(model, kind == "checkpointing")
    if kind == "frozen tower":
        model.model.vision_tower.eval().requires_grad_(False)
    if kind == "raises":
        monkeypatch.setattr(model.lm_head, "forward", lambda hidden: 1 / 0)
    before = state(model)
    with torch.enable_grad():
        if kind == "raises":
            with pytest.raises(ZeroDivisionError):
                evaluator(tmp_path)(model, 1)
        else:
            evaluator(tmp_path)(model, 1)
    after = state(model)
    assert [key for key in before if before[key] != after[key]] == []


def test_a_default_device_of_the_training_is_not_used(tmp_path: Path) -> None:
    evaluate, model = evaluator(tmp_path, limit=2), live.model()
    with torch.device("meta"):  # as `torch.set_default_device("cuda")`, and nothing can be read from it
        runs = evaluate(model, 1)
        assert torch.get_default_device().type == "meta"
    assert texts(runs) == texts(evaluator(tmp_path / "usual", limit=2)(model, 1))


def test_torchs_own_settings_are_set_back(tmp_path: Path) -> None:
    evaluate, model = evaluator(tmp_path), live.model()
    try:
        torch.set_float32_matmul_precision("high")
        before = state(model)
        evaluate(model, 1)
        assert state(model) == before
    finally:
        torch.set_float32_matmul_precision("highest")


def test_a_model_is_known_by_its_numbers(tmp_path: Path) -> None:
    """Equal numbers are the same run; any other number, adapter or scaling is another."""
    evaluate, model = evaluator(tmp_path, limit=2), live.model()
    first = evaluate(model, 1)[0].folder
    when = first.read_run()["sessions"]
    assert evaluate(model, 1)[0].folder.path == first.path
    assert first.read_run()["sessions"] == when, "it was predicted again"
    found = {first.path}
    model.model.language_model.layers[1].mlp.up_proj.weight.data[3, 5] += 1e-6  # leaves no trace in torch
    found.add(evaluate(model, 1)[0].folder.path)
    model = adapted(model)
    found.add(evaluate(model, 1)[0].folder.path)
    model.peft_config["default"].lora_alpha = 17
    found.add(evaluate(model, 1)[0].folder.path)
    assert len(found) == 4


def test_an_adapter_that_is_left_out_or_scaled_is_another_model(tmp_path: Path) -> None:
    """Neither moves a weight: what was answered with the adapter is no answer of the base alone."""
    evaluate, model = evaluator(tmp_path, limit=4), adapted(live.model())
    whole = evaluate(model, 7)
    with model.disable_adapter():
        without = evaluate(model, 7)
    assert texts(without) == texts(evaluator(tmp_path / "base", limit=4)(live.model(), 7))
    assert texts(without) != texts(whole)
    for layer in model.modules():
        if hasattr(layer, "scale_layer"):
            layer.scale_layer(3.0)
    assert evaluate(model, 7)[0].folder.path != whole[0].folder.path


def test_what_cannot_be_evaluated_is_said(tmp_path: Path) -> None:
    import peft

    evaluate = evaluator(tmp_path, processor=None)
    with pytest.raises(evalkit.errors.ModelError, match="has no processor or tokenizer"):
        evaluate(live.model(), 1)
    with pytest.raises(evalkit.errors.ModelError, match="is a Linear; only PaliGemma"):
        evaluate(torch.nn.Linear(2, 2), 1, live.processor())
    prompt = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2, num_layers=2,
                                     token_dim=32, num_attention_heads=4)  # fmt: skip
    with pytest.raises(evalkit.errors.ModelError, match="a learned prompt"):
        evaluate(peft.get_peft_model(live.model(), prompt), 1, live.processor())
    with pytest.raises(evalkit.errors.UserError, match="dtype: a model in memory is evaluated as it is"):
        evaluator(tmp_path / "other", dtype="bfloat16")
    with pytest.raises(TypeError, match=r"'limits'.*limit"):
        evaluator(tmp_path / "third", limits=3)


def test_data_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from evalkit.tasks import dataset

    read, inner = [], dataset.dataset
    monkeypatch.setattr(dataset, "dataset", lambda *given: (read.append(given[0].name), inner(*given))[1])
    evaluate, model = evaluator(tmp_path, limit=2), live.model()
    for step in (1, 2):
        model.lm_head.weight.data[0, 0] += 1
        evaluate(model, step)
    assert read == ["colours_test"]


@pytest.mark.parametrize("how", ["DistributedDataParallel", "torch.compile"])
def test_what_wraps_a_model_is_seen_through(how: str, tmp_path: Path) -> None:
    model = live.model()
    if how == "torch.compile":
        wrapped: Any = torch.compile(model)
    else:
        wrapped = torch.nn.Module()
        wrapped.module = model
    evaluate = evaluator(tmp_path)
    assert evaluate(wrapped, 1)[0].folder.path == evaluate(model, 1)[0].folder.path
    assert all(m.training for m in model.modules())


def test_data_of_one_s_own_is_evaluated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As `run --data` does: recognised and said once, its task kept beside the runs."""
    mine = tmp_path / "mine"
    live.task(mine)
    rows = [json.loads(line) for line in (mine / "colours.jsonl").read_text().splitlines()]
    lines = (f"{r['image']},{r['question']},{r['answers'][0]}" for r in rows)
    (mine / "test.csv").write_text("\n".join(["image,question,answer", *lines]) + "\n")
    (mine / "colours.jsonl").unlink()
    evaluate = evalkit.Evaluator(data=mine, processor=live.processor(), output_path=tmp_path / "results")
    model = live.model()
    first, second = evaluate(model, 1), evaluate(model, 2)
    assert [run.task for run in (*first, *second)] == ["mine_test"] * 2
    assert evaluate.metrics["mine_test/n"] == 20
    assert capsys.readouterr().err.count("a table of images and texts") == 1
    assert evalkit.score(tmp_path / "results")[0].task == "mine_test"  # finds the task again


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"tasks": "docvqa_vall"}, "did you mean docvqa_val"),
        ({"data": "nowhere"}, "nowhere: no such folder or file"),
        ({}, "name tasks, or data of your own"),
        ({"tasks": "docvqa_val", "set": {"decode.max_new_token": 3}}, "max_new_token: unknown key"),
    ],
)
def test_a_slip_is_said_before_the_training(options: dict[str, Any], said: str) -> None:
    for made in (evalkit.Evaluator, evalkit.TrainerCallback):
        with pytest.raises(UserError, match=said):
            made(**options)
