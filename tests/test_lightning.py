"""The callback of docs/training.md inside Lightning's own Trainer."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import live
import pytest
import torch
import transformers
from test_training import Lines

import evalkit

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("lightning") is None, reason="lightning is not installed: pip install lightning"
)
PAGE = Path(__file__).parent.parent / "docs" / "training.md"


def trained(tmp_path: Path, *callbacks: Any) -> tuple[list[float], Any]:
    """The losses of four steps, and the model."""
    import lightning

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            transformers.set_seed(0)
            self.model, self.losses = live.model(), list[float]()

        def training_step(self, batch: Any, index: int) -> Any:
            loss = self.model(**batch).loss
            self.losses.append(float(loss))
            return loss

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), 0.1)

    module = Module()
    trainer = lightning.Trainer(
        max_steps=4, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        default_root_dir=tmp_path, callbacks=list(callbacks),
    )  # fmt: skip
    trainer.fit(module, torch.utils.data.DataLoader(Lines(), batch_size=2))
    return module.losses, module.model


def test_training_goes_on_bit_for_bit(tmp_path: Path) -> None:
    code = re.search(r"## Lightning\n\n```python\n(.*?)```", PAGE.read_text(), re.S)
    assert code
    task = live.task(tmp_path / "data")
    evaluator = evalkit.Evaluator(task, processor=live.processor(), data_root=tmp_path / "data",
                                  output_path=tmp_path / "results", name="lit")  # fmt: skip
    known: dict[str, Any] = {"evaluate": evaluator}
    exec(code[1].replace("500", "2"), known)
    losses, model = trained(tmp_path, known["Evaluate"]())
    plain, other = trained(tmp_path)
    assert losses == plain
    assert len(losses) == 4
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))
    assert {run.model for run in evalkit.load(tmp_path / "results")} == {
        "lit-checkpoint-2",
        "lit-checkpoint-4",
    }
