"""Quantised weights: the int8 rounding, its stamp and identity; libraries that are not there are named."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny
import torch
from stub import colours
from tiny import absent, ask, backend, by_id

from evalkit.cli.main import main
from evalkit.errors import ModelError
from evalkit.models.paligemma.checkpoint.quantize import round_int8


def test_every_weight_is_one_of_255_steps_of_its_channel() -> None:
    exact, rounded = backend(tiny.checkpoint(1)), backend(tiny.checkpoint(1), quantize="int8")
    for model in (exact, rounded):
        model.load()
    before = dict(exact._engine.model.named_parameters())
    changed = 0
    for name, weight in rounded._engine.model.named_parameters():
        if name.endswith(("_proj.weight", "fc1.weight", "fc2.weight", "linear.weight")):
            changed += 1
            step = before[name].abs().amax(1, keepdim=True) / 127
            steps = weight / step
            assert torch.allclose(steps, steps.round(), atol=1e-3), name
            assert ((weight - before[name]).abs() <= 0.5001 * step).all(), name
        else:
            assert torch.equal(weight, before[name]), name
    assert changed == 2 * 7 + 2 * 6 + 1


def test_a_channel_of_zeros_stays() -> None:
    class Two(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.head = torch.nn.Linear(3, 2), torch.nn.Linear(2, 2)

        def get_output_embeddings(self) -> torch.nn.Module:
            return self.head

    model = Two()
    with torch.no_grad():
        model.inner.weight[0] = 0
        model.inner.weight[1] = torch.tensor([1.0, 0.5, -0.001])
    round_int8(model)
    assert model.inner.weight[0].tolist() == [0, 0, 0]
    assert model.inner.weight[1].tolist() == pytest.approx([1, 64 / 127, 0])


def test_it_is_another_run_and_stamped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    task = colours(tmp_path / "data", images=2)
    monkeypatch.chdir(tmp_path)
    words = ["run", "--tasks", str(task), "--data-root", str(task.parent), "--model", str(tiny.checkpoint(1))]
    assert main(words) == 0
    assert main([*words, "--quantize", "int8"]) == 0
    out, err = capsys.readouterr()
    assert "q weights quantised" in out
    assert "weights quantised (int8)" in err
    assert len(list(Path("results").iterdir())) == 2
    assert main(["table"]) == 0
    assert "int8-weights" in capsys.readouterr().out


def test_answers_are_the_same_whatever_the_batch() -> None:
    one, many = (
        by_id(backend(tiny.checkpoint(1), quantize="int8", batch_size=n).predict(ask(6))) for n in (1, 4)
    )
    assert {k: p.tokens for k, p in one.items()} == {k: p.tokens for k, p in many.items()}


@pytest.mark.parametrize("scheme", ["bitsandbytes-int8", "bitsandbytes-nf4", "torchao-int8"])
def test_a_library_that_is_not_there_is_named(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    package = scheme.partition("-")[0]
    absent(monkeypatch, package)
    with pytest.raises(
        ModelError, match=f"needs the package {package}; pip install '?(evalkit.quantized|{package})"
    ):
        backend(tiny.checkpoint(1), quantize=scheme)


def test_no_such_scheme() -> None:
    with pytest.raises(ModelError, match="--quantize int9: no such scheme; did you mean int8"):
        backend(tiny.checkpoint(1), quantize="int9")
