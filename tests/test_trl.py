"""TRL's own SFTTrainer with the callback: PEFT and gradient checkpointing included."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import live
import pytest
import torch
import transformers
from test_live import texts
from test_training import KEY, Lines, made

import evalkit

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("trl") is None, reason="trl is not installed: pip install trl"
)


def trained(tmp_path: Path, *callbacks: Any, **options: Any) -> Any:
    """An SFTTrainer after four steps, as PaliGemma's fine-tunes set it up: own lines, own collator."""
    import datasets
    import peft
    import trl

    transformers.set_seed(0)
    lines = Lines()
    settings = {
        "output_dir": str(tmp_path / "my-sft"), "max_steps": 4, "per_device_train_batch_size": 2,
        "logging_steps": 1, "learning_rate": 1e-2, "report_to": "none", "use_cpu": True, "seed": 11,
        "save_strategy": "no", "disable_tqdm": True, "gradient_checkpointing": True, "bf16": False,
        "dataset_kwargs": {"skip_prepare_dataset": True}, "remove_unused_columns": False, "max_length": None,
        **options,
    }  # fmt: skip
    lora = peft.LoraConfig(r=4, target_modules=r".*language_model.*\.(q_proj|v_proj)", lora_dropout=0.1)
    trainer = trl.SFTTrainer(
        model=live.model(),
        args=trl.SFTConfig(**settings),
        train_dataset=datasets.Dataset.from_dict({"i": list(range(len(lines)))}),
        eval_dataset=datasets.Dataset.from_dict({"i": [0, 1]}),
        data_collator=lambda rows: {
            key: torch.stack([lines[row["i"]][key] for row in rows]) for key in lines[0]
        },
        processing_class=live.processor(),
        peft_config=lora,
        callbacks=list(callbacks),
    )
    trainer.train()
    return trainer


def test_training_goes_on_bit_for_bit_and_the_saved_model_says_the_same(tmp_path: Path) -> None:
    """Its metrics are among the Trainer's own, and choose the best checkpoint."""
    evaluated = {"eval_strategy": "steps", "eval_steps": 2}
    without = trained(tmp_path / "without", **evaluated)
    with_it = trained(tmp_path, made(tmp_path), metric_for_best_model=KEY, save_strategy="best", **evaluated)
    losses = [[(e["step"], e["loss"], e["grad_norm"]) for e in t.state.log_history if "loss" in e]
              for t in (without, with_it)]  # fmt: skip
    assert len(losses[0]) == 4
    assert losses[0] == losses[1]
    one, two = without.model.state_dict(), with_it.model.state_dict()
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)
    history = [e for e in with_it.state.log_history if KEY in e]
    assert {e["step"] for e in history} == {2, 4}
    assert with_it.state.best_metric == max(e[KEY] for e in history)
    found = {run.model: run for run in evalkit.load(tmp_path / "results")}
    assert set(found) == {"my-sft-checkpoint-2", "my-sft-checkpoint-4"}
    with_it.save_model(tmp_path / "saved")
    live.model().save_pretrained(tmp_path / "base")
    live.processor().save_pretrained(tmp_path / "base")
    after = evalkit.run(
        tmp_path / "saved", tmp_path / "data/colours_test.yaml", data_root=tmp_path / "data",
        output_path=tmp_path / "after", base=str(tmp_path / "base"),
    )  # fmt: skip
    assert texts([found["my-sft-checkpoint-4"]]) == texts(after)
