"""Choices by likelihood: as teacher forcing through transformers says, whatever the batch."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from stub import colours
from tiny import ask, backend, by_id

from evalkit.errors import ModelError, UserError
from evalkit.models.paligemma.interface import OutOfMemory, Prompt, rules
from evalkit.tasks import dataset, loader
from evalkit.types import Decode, Request, Sample

CHOICES = [("yes", "no"), ("a cat", "two red cats on it", "what"), ("dog", "dogs", "the dog"), ("no",)]
SETTINGS = {"decode.mode": "likelihood", "choices": "['yes', 'no']"}


@pytest.fixture(params=[1, 2], ids=["gemma", "gemma2"])
def folder(request: pytest.FixtureRequest) -> Path:
    return tiny.checkpoint(request.param)


def offered(n: int, **decode: Any) -> list[Request]:
    asked = ask(n, mode="likelihood", **decode)
    return [replace(r, choices=CHOICES[i % len(CHOICES)]) for i, r in enumerate(asked)]


def forced(model: Any, request: Request, protocol: str) -> list[float]:
    """Each choice's log-likelihood: one pass of transformers over prompt and choice, without a cache."""
    plain, rule = model._engine, rules(protocol, model.info.eos)
    pixels = tiny.prepare(request.images[0], request.preparation).pixels[None]
    prefix = Prompt(pixels, tuple(model.encode(request.prompt, request.decode.text_length)))
    start = [plain.image_token] * plain.image_tokens + list(prefix.ids)
    sums = []
    for choice in request.choices:
        answer = [*model._prompter.tokenizer(choice, add_special_tokens=False)["input_ids"], rule.eos[0]]
        ids = torch.tensor([start + answer])
        kinds = torch.tensor([[0] * len(start) + [1] * len(answer)])
        with torch.inference_mode():
            hidden = plain.model.model(
                input_ids=ids,
                pixel_values=plain._values(torch.from_numpy(pixels)),
                attention_mask=torch.ones_like(ids),
                position_ids=torch.arange(ids.shape[1])[None] + rule.first_position,
                token_type_ids=kinds,
                use_cache=False,
            ).last_hidden_state[0, len(start) - 1 : -1]
            logits = plain.model.lm_head(hidden).float()
        if plain.cap is not None:
            capped = torch.tanh(logits / plain.cap) * plain.cap
            logits = capped if rule.cap_first else torch.cat([logits[:1], capped[1:]])
        found = logits.log_softmax(-1).gather(1, torch.tensor(answer)[:, None])
        sums.append(float(found.sum()))
    return sums


@pytest.mark.parametrize("engine", ["fast", "plain"])
@pytest.mark.parametrize("protocol", ["paper", "hf"])
def test_the_most_likely_choice_by_teacher_forcing(folder: Path, protocol: str, engine: str) -> None:
    other = backend(folder, protocol=protocol)
    other.load()
    asked = offered(16, logprobs=True)
    found = by_id(backend(folder, engine=engine, protocol=protocol).predict(asked))
    picked = set()
    for request in asked:
        sums, one = forced(other, request, protocol), found[request.id]
        best = max(range(len(sums)), key=sums.__getitem__)
        picked.add(best)
        assert one.text == request.choices[best]
        assert one.stop == "eos"
        assert one.logprobs is not None
        assert len(one.logprobs) == len(one.tokens)
        if len(sums) == 1:
            assert one.margin is None
        else:
            first, second = sorted(sums)[:-3:-1]
            assert one.margin == pytest.approx(first - second, abs=1e-3)
    assert len(picked) > 1


def test_batch_and_order_do_not_matter(folder: Path) -> None:
    asked = offered(12, logprobs=True)
    one = by_id(backend(folder, engine="fast", batch_size=1).predict(asked))
    many = by_id(backend(folder, engine="fast", batch_size=8).predict(reversed(asked)))
    assert one == many
    mixed = by_id(backend(folder, engine="fast").predict([*ask(3), *asked[3:]]))
    assert {k: p.text for k, p in one.items() if int(k[1:]) >= 3} == {
        k: p.text for k, p in mixed.items() if int(k[1:]) >= 3
    }


def test_several_images(folder: Path) -> None:
    """Two pictures a prompt: no answer or likelihood hangs on batch, order or engine."""
    single = offered(10, logprobs=True)
    asked = [replace(r, images=(r.images[0], single[i - 3].images[0])) for i, r in enumerate(single)]
    one = by_id(backend(folder, engine="fast", batch_size=1).predict(asked))
    many = by_id(backend(folder, engine="fast", batch_size=8).predict(reversed(asked)))
    oracle = by_id(backend(folder).predict(asked))
    assert len({p.text for p in one.values()}) > 1
    for name, answer in one.items():
        assert answer.text == many[name].text == oracle[name].text
        assert answer.logprobs == pytest.approx(many[name].logprobs, abs=1e-5)
        assert answer.logprobs == pytest.approx(oracle[name].logprobs, abs=1e-4)


def test_of_equals_the_first_and_close_calls_again() -> None:
    model = backend(tiny.checkpoint(1), engine="fast", stable=1e9)
    (request,) = offered(1)
    (found,) = model.predict([replace(request, choices=("no", "no"))])
    assert (found.text, found.margin) == ("no", 0.0)
    assert model.provenance()["close_calls"]["close"] == 1


def test_a_choice_no_device_has_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    model = backend(tiny.checkpoint(1), engine="fast")
    model.load()

    def full(*_: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(model._engine, "prefill", full)
    with pytest.raises(ModelError, match="s0: does not fit into memory"):
        list(model.predict(offered(1)))


@pytest.mark.parametrize("engine", ["fast", "plain"])
@pytest.mark.parametrize("mode", ["likelihood", "generate"])
def test_a_close_call_that_does_not_fit_in_float32(engine: str, mode: str) -> None:
    class Full:
        def choose(self, *_: Any) -> Any:
            raise OutOfMemory

        answer = choose

    model = backend(tiny.checkpoint(1), engine=engine, stable=1e9)
    model.load()
    model._stable.exact = Full
    asked = offered(1)
    if mode == "generate":
        asked = [replace(r, choices=(), decode=Decode(4)) for r in asked]
    with pytest.raises(ModelError, match=r"s0: its close call does not fit .* --stable"):
        list(model.predict(asked))


# --- the task ------------------------------------------------------------------------------------


def test_generated_text_keeps_its_identity(tmp_path: Path) -> None:
    task = str(colours(tmp_path / "data"))
    plain = loader.text_identity(loader.load(task))
    assert sorted(plain) == ["decode", "format", "name", "prompt", "split", "version"]
    assert "mode" not in plain["decode"]
    chosen = loader.text_identity(loader.load(task, SETTINGS))
    assert chosen == {
        **plain,
        "decode": {**plain["decode"], "mode": "likelihood"},
        "choices": ["yes", "no"],
    }


def test_a_sample_offers(tmp_path: Path) -> None:
    task = str(colours(tmp_path / "data"))
    sample = Sample("7", (), {}, (), choices=("A", "B", "A"))
    assert loader.choices(loader.load(task), sample) == ()
    assert loader.choices(loader.load(task, SETTINGS), sample) == ("yes", "no")
    own = loader.load(task, {**SETTINGS, "choices": "['It is {choice}.', none]"})
    assert loader.choices(own, sample) == ("It is A.", "It is B.", "none")
    with pytest.raises(UserError, match="sample 7 has none of its own"):
        loader.choices(own, replace(sample, choices=()))


def test_what_is_offered_is_in_the_digest(tmp_path: Path) -> None:
    task = str(colours(tmp_path / "data"))
    roots = [tmp_path, tmp_path / "data"]
    plain = dataset.dataset(loader.load(task), roots)
    one = dataset.dataset(loader.load(task, SETTINGS), roots)
    two = dataset.dataset(loader.load(task, {**SETTINGS, "choices": "['no', 'yes']"}), roots)
    assert len({plain.prompts, one.prompts, two.prompts}) == 3


def test_formats_hand_over_their_choices(tmp_path: Path) -> None:
    rows = [{"q": "which", "image": "a.png", "c": ["sun", "cow"], "k": 1}]
    (tmp_path / "q.json").write_text(json.dumps(rows))
    file = tmp_path / "t.yaml"
    file.write_text(
        "version: 1\nabout: a\nlicense: none\nprompt: '{question}'\nparser: text\nmetrics: [exact_match]\n"
        "data:\n  format: \"questions(question='q', choices='c', correct='k')\"\n  split: test\n"
        "  sources: [{path: q.json, images: .}]\n"
    )
    task = loader.load(str(file), {**SETTINGS, "choices": "['{choice}']"})
    (sample,) = dataset.dataset(task, [tmp_path]).samples
    assert (loader.choices(task, sample), sample.target) == (("sun", "cow"), ("cow",))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"decode.mode": "likelihood"}, "choices: decode.mode: likelihood needs at least two"),
        ({**SETTINGS, "choices": "[one]"}, "needs at least two"),
        ({**SETTINGS, "choices": "[yes, no]"}, "choices: True is not text; put quotes around it"),
        ({**SETTINGS, "choices": "[a, b, a]"}, "choices: 'a' is listed twice"),
        ({**SETTINGS, "choices": "a"}, "choices: is text, must be a list"),
        ({"choices": "[a, b]"}, "choices: have no effect where text is generated"),
        ({"decode.mode": "likelihod"}, "decode: mode: no 'likelihod'; there are: generate, likelihood"),
        ({**SETTINGS, "decode.beams": "2"}, "decode: beams: goes with mode: generate only"),
        ({**SETTINGS, "decode.temperature": "1"}, "decode: temperature: goes with mode: generate only"),
    ],
)
def test_refused(settings: dict[str, str], sentence: str, tmp_path: Path) -> None:
    task = str(colours(tmp_path / "data"))
    with pytest.raises(UserError, match=sentence):
        loader.load(task, settings)
