"""`decode.forbid`: what an answer may not contain, in both engines, greedy and drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from stub import colours
from tiny import ask, backend, by_id

from evalkit.errors import ModelError, UserError
from evalkit.models.paligemma.decoding.forbidden import completing, forbid
from evalkit.tasks import loader


@pytest.fixture(params=[1, 2], ids=["gemma", "gemma2"])
def folder(request: pytest.FixtureRequest) -> Path:
    return tiny.checkpoint(request.param)


def test_the_token_that_would_complete_a_sequence() -> None:
    never = [(1,), (5, 6, 7), (6, 8)]
    assert completing(never, []) == {1}
    assert completing(never, [5, 6]) == {1, 7, 8}
    assert completing(never, [6]) == {1, 8}
    logits = torch.zeros(2, 10)
    forbid(logits, [(never, [5, 6]), ((), [5, 6])])
    assert [int(t) for t in logits[0].isinf().nonzero()] == [1, 7, 8]
    assert not logits[1].isinf().any()


@pytest.mark.parametrize("drawn", [{}, {"temperature": 1.0, "seed": 3}], ids=["greedy", "drawn"])
def test_both_engines_leave_it_out(folder: Path, drawn: dict[str, Any]) -> None:
    free = by_id(backend(folder).predict(ask(8, logprobs=True, **drawn)))
    model = backend(folder)
    model.load()
    prompter = model._prompter
    said = [p.tokens[i : i + n] for p in free.values() for n in (1, 2) for i in range(len(p.tokens) + 1 - n)]
    spelled = {s: prompter.decode(s) for s in said}  # those that are the same tokens when read as text
    known = [s for s, text in spelled.items() if prompter.pieces(text) == list(s)]
    for n in (1, 2):
        tokens = next(s for s in known if len(s) == n)
        asked = ask(8, logprobs=True, forbid=("<eos>", spelled[tokens]), **drawn)
        found = by_id(backend(folder).predict(asked))
        quick = by_id(backend(folder, engine="fast", batch_size=3).predict(asked))
        assert {k: p.text for k, p in found.items()} == {k: p.text for k, p in quick.items()}
        for name, one in found.items():
            assert one.stop == "length"
            assert len(one.tokens) == asked[0].decode.max_new_tokens
            assert not any(one.tokens[i : i + n] == tokens for i in range(len(one.tokens)))
            assert one.logprobs == pytest.approx(quick[name].logprobs, abs=1e-4)
            if free[name].tokens[:1] == one.tokens[:1]:
                assert (one.logprobs or (0,))[0] == pytest.approx((free[name].logprobs or (1,))[0], abs=1e-6)


def test_refused_where_it_cannot_be(folder: Path, tmp_path: Path) -> None:
    for decode in ({"beams": 2}, {"mode": "likelihood"}):
        with pytest.raises(ModelError):
            list(backend(folder).predict(ask(1, forbid=("<eos>",), **decode)))
    task = str(colours(tmp_path / "data"))
    for settings, message in (
        ({"decode.forbid": "[1]"}, "decode: forbid: 1 is not text"),
        ({"decode.forbid": "['<eos>']", "decode.beams": "2"}, "decode: forbid: goes with"),
        ({"decode.forbid": "<eos>"}, "decode: forbid"),
    ):
        with pytest.raises(UserError, match=message):
            loader.load(task, settings)


def test_it_is_part_of_the_identity_where_it_forbids(tmp_path: Path) -> None:
    task = str(colours(tmp_path / "data"))
    assert "forbid" not in loader.text_identity(loader.load(task))["decode"]
    assert loader.text_identity(loader.load(task, {"decode.forbid": "['<eos>']"}))["decode"]["forbid"] == [
        "<eos>"
    ]
