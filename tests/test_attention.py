"""Attention that is written out, in any number of parts, against one fused product."""

from __future__ import annotations

import pytest
import torch

from evalkit.models.paligemma.engine import attention


@pytest.mark.parametrize("most", [1, 100, 2000, 1 << 22])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("queries", [1, 8, 40])
@pytest.mark.parametrize("alone", [{"cpu"}, set()])
def test_parts_change_nothing(
    most: int, masked: bool, queries: int, alone: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "ALONE", alone)
    monkeypatch.setitem(attention.SCORES, "cpu", most)
    random_ = torch.Generator().manual_seed(0)
    q = torch.randn((5, 2, queries, 8), generator=random_)
    keys, values = (torch.randn((5, 2, 11, 8), generator=random_) for _ in range(2))
    mask = torch.arange(11) <= torch.tensor([10, 3, 7, 0, 5])[:, None, None, None] if masked else None
    found = attention.attend(q, keys, values, 0.3, mask, cap=5.0)
    scores = 5 * torch.tanh(0.3 * q @ keys.transpose(-1, -2) / 5)
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    assert torch.allclose(found, scores.softmax(-1) @ values, atol=1e-6)
