"""Sampling: drawn by seed and sample id alone, the right shares, stamped, refused where it means nothing."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from stub import colours
from tiny import ask, backend, by_id

from evalkit.errors import ModelError, UserError
from evalkit.models.paligemma.decoding.sampling import Draws, nucleus
from evalkit.tasks import loader
from evalkit.types import Decode

WARM: dict[str, Any] = {"temperature": 1.5, "top_p": 0.9}


@pytest.fixture(params=[1, 2], ids=["gemma", "gemma2"])
def folder(request: pytest.FixtureRequest) -> Path:
    return tiny.checkpoint(request.param)


def test_batch_and_order_do_not_matter(folder: Path) -> None:
    requests = ask(12, **WARM)
    one = by_id(backend(folder, batch_size=1).predict(requests))
    many = by_id(backend(folder, batch_size=5).predict(reversed(requests)))
    assert {k: p.tokens for k, p in one.items()} == {k: p.tokens for k, p in many.items()}
    assert {k: p.text for k, p in one.items()} != {
        k: p.text for k, p in by_id(backend(folder).predict(ask(12))).items()
    }
    assert all(p.margin is None for p in one.values())


def test_the_seed_and_the_id_decide(folder: Path) -> None:
    model = backend(folder)
    (request,) = ask(1, **WARM)
    again, other_id = replace(request), replace(request, id="another")
    other_seed = replace(request, decode=replace(request.decode, seed=1))
    texts = [next(model.predict([r])).tokens for r in (request, again, other_id, other_seed)]
    assert texts[0] == texts[1]
    assert len(set(texts)) == 3


def test_a_temperature_near_0_is_greedy(folder: Path) -> None:
    cold = by_id(backend(folder).predict(ask(8, temperature=1e-6, logprobs=True)))
    greedy = by_id(backend(folder).predict(ask(8, logprobs=True)))
    assert {k: (p.tokens, p.logprobs) for k, p in cold.items()} == {
        k: (p.tokens, p.logprobs) for k, p in greedy.items()
    }


def test_shares_are_the_probabilities() -> None:
    shares = torch.tensor([0.5, 0.0, 0.3, 0.15, 0.05])
    logits = shares.log().repeat(20_000, 1)
    counts = Counter(Draws(range(20_000), Decode(temperature=1.0)).next(logits).tolist())
    assert 1 not in counts
    assert [counts[i] / 20_000 for i in range(5)] == pytest.approx(shares.tolist(), abs=0.012)
    warm = Counter(Draws(range(20_000), Decode(temperature=2.0)).next(logits).tolist())
    roots = shares.sqrt() / shares.sqrt().sum()
    assert [warm[i] / 20_000 for i in range(5)] == pytest.approx(roots.tolist(), abs=0.012)


@pytest.mark.parametrize(
    ("top_p", "kept"), [(1.0, {0, 2, 3, 4}), (0.81, {0, 2, 3}), (0.79, {0, 2}), (0.4, {0}), (1e-9, {0})]
)
def test_the_nucleus_keeps_the_token_that_crosses(top_p: float, kept: set[int]) -> None:
    shares = torch.tensor([[0.5, 0.0, 0.3, 0.15, 0.05]], dtype=torch.float64)
    assert set(nucleus(shares, top_p)[0].nonzero()[:, 0].tolist()) == kept


def test_only_what_is_drawn_is_in_the_identity(tmp_path: Path) -> None:
    task = str(colours(tmp_path / "data"))
    plain = loader.text_identity(loader.load(task))
    assert plain["decode"] == {"max_new_tokens": 32, "text_length": 32, "beams": 1, "logprobs": False}
    drawn = loader.text_identity(loader.load(task, {"decode.temperature": "1"}))
    assert drawn["decode"] == {**plain["decode"], "temperature": 1.0, "top_p": 1.0, "seed": 0}


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"temperature": "-1"}, "decode: temperature: is -1, must be from 0"),
        ({"temperature": ".nan"}, "decode: temperature: is nan, must be from 0"),
        ({"temperature": "hot"}, "decode: temperature: is text, must be a number"),
        ({"temperature": "1", "top_p": "0"}, "decode: top_p: is 0, must be above 0"),
        ({"top_p": "0.9"}, "decode: top_p: has no effect at temperature 0"),
        ({"seed": "3"}, "decode: seed: has no effect at temperature 0"),
        ({"temperature": "1", "beams": "2"}, "decode: temperature: goes with beams: 1 only"),
    ],
)
def test_refused(settings: dict[str, str], sentence: str, tmp_path: Path) -> None:
    task = str(colours(tmp_path / "data"))
    with pytest.raises(UserError, match=sentence):
        loader.load(task, {f"decode.{k}": v for k, v in settings.items()})


def test_the_backend_refuses_beams_too() -> None:
    with pytest.raises(ModelError, match="sampling needs beams=1"):
        list(backend(tiny.checkpoint(1)).predict(ask(1, temperature=1.0, beams=2)))
