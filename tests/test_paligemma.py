"""The PaliGemma backend on tiny random checkpoints: batches, protocols, prompts, memory, images."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from tiny import PROMPTS, ask, backend, by_id

from evalkit.errors import ImageError, ModelError
from evalkit.models.paligemma.batching.batches import Planned, plan
from evalkit.models.paligemma.decoding.beam_search import expand
from evalkit.models.paligemma.engine import plain, vision
from evalkit.models.paligemma.interface import Limit, Prompt, rules
from evalkit.models.paligemma.tokenizer import Prompter
from evalkit.types import Decode, ImageRef, Prediction, Preparation, Request

ROUNDING = 2e-5  # float32 logits of the tiny checkpoints are within 7e-6 of float64's, log-probabilities 2e-6

# --- answers do not depend on their company ------------------------------------------------------


@pytest.mark.parametrize("family", [1, 2])
@pytest.mark.parametrize("images", [1, 2])
def test_batch_size_and_order_change_nothing(family: int, images: int) -> None:
    asked = ask(23, images, logprobs=True)
    alone = by_id(backend(tiny.checkpoint(family), batch_size=1).predict(asked))
    assert len({p.text for p in alone.values()}) > 5  # the model tells prompts and images apart
    shuffled = random.Random(5).sample(asked, len(asked))
    for size, requests in ((3, asked), (16, asked), (16, shuffled)):
        found = by_id(backend(tiny.checkpoint(family), batch_size=size).predict(requests))
        assert found.keys() == alone.keys()
        for name, one in alone.items():
            other = found[name]
            assert (other.text, other.tokens, other.stop) == (one.text, one.tokens, one.stop)
            assert other.margin == pytest.approx(one.margin, abs=1e-4)
            assert other.logprobs == pytest.approx(one.logprobs, abs=1e-4)


@pytest.mark.parametrize("family", [1, 2])
def test_left_padding_changes_no_logits(family: int) -> None:
    model = backend(tiny.checkpoint(family))
    model.load()
    engine = model._engine
    assert isinstance(engine, plain.PlainEngine)
    pixels = tiny.prepare(ImageRef("a"), Preparation(28)).pixels[None]
    ids = [model.encode(p, 32) for p in PROMPTS]
    asked = [Prompt(pixels, tuple(i)) for i in ids]
    with torch.inference_mode():
        together, state = engine.prefill(asked, model.rules)
        after = engine.step(together.argmax(-1), state)
        for row, prompt in enumerate(asked):
            alone, state = engine.prefill([prompt], model.rules)
            assert torch.allclose(alone[0], together[row], atol=1e-4)
            assert torch.allclose(engine.step(alone.argmax(-1), state)[0], after[row], atol=1e-4)


@pytest.mark.parametrize("family", [1, 2])
def test_hf_protocol_equals_generate(family: int) -> None:
    """Greedy tokens and log-probabilities of transformers' own `generate`, one prompt at a time."""
    model = backend(tiny.checkpoint(family), protocol="hf")
    asked = ask(6, logprobs=True)
    found = by_id(model.predict(asked))
    assert isinstance(model._engine, plain.PlainEngine)
    theirs = model._engine.model
    for request in asked:
        pixels = torch.from_numpy(tiny.prepare(request.images[0], request.preparation).pixels)[None]
        ids = [model.info.image_token] * model.info.image_tokens + model.encode(request.prompt, None)
        inputs = torch.tensor([ids])
        out = theirs.generate(
            input_ids=inputs,
            attention_mask=torch.ones_like(inputs),
            token_type_ids=torch.zeros_like(inputs),
            pixel_values=vision.normalise(pixels).permute(0, 3, 1, 2),
            max_new_tokens=8,
            do_sample=False,
            output_logits=True,
            return_dict_in_generate=True,
        )
        new = out.sequences[0, len(ids) :].tolist()
        mine = found[request.id]
        assert list(mine.tokens) == [t for t in new if t not in model.rules.eos]
        logits = tiny.soft_capped(theirs, torch.stack(out.logits)[:, 0])
        wanted = torch.log_softmax(logits, -1)[range(len(mine.tokens)), list(mine.tokens)]
        assert mine.logprobs == pytest.approx(wanted.tolist(), abs=ROUNDING)
        two = logits.topk(2).values
        assert mine.margin == pytest.approx(float((two[:, 0] - two[:, 1]).min()), abs=ROUNDING)


def test_no_window_is_left_in_paligemma_2(tmp_path: Path) -> None:
    """The tiny config says a window of 4 tokens, less than one image; the reference has none."""
    narrow = tiny.checkpoint(2)
    assert json.loads((narrow / "config.json").read_text())["text_config"]["sliding_window"] == 4
    wide = shutil.copytree(narrow, tmp_path / "wide")
    tiny.edit(wide, text_config__sliding_window=100_000)
    assert by_id(backend(narrow).predict(ask(6))) == by_id(backend(wide).predict(ask(6)))


def test_answers_end_at_the_end_token() -> None:
    model = backend(tiny.checkpoint(1))
    told = next(iter(model.predict(ask(1)))).tokens
    end = next(t for t in told if t != told[0])
    model.load()
    assert isinstance(model._engine, plain.PlainEngine)
    pixels = tiny.prepare(ImageRef("0-0.jpg"), Preparation(28)).pixels[None]
    prompt = Prompt(pixels, tuple(model.encode(PROMPTS[0], 32)))
    ended = model._engine.answer([prompt], Decode(8), rules("hf", (end,)))[0]
    assert ended.stop == "eos"
    assert ended.tokens == told[: told.index(end) + 1]
    assert len(ended.tokens) == len(ended.logprobs)


@pytest.mark.parametrize("family", [1, 2])
def test_bfloat16_answers_in_equal_batches_as_alone(family: int) -> None:
    asked = ask(12)
    alone = by_id(backend(tiny.checkpoint(family), batch_size=1, dtype="bfloat16").predict(asked))
    found = by_id(backend(tiny.checkpoint(family), batch_size=8, dtype="bfloat16").predict(asked))
    differing = [k for k in alone if alone[k].text != found[k].text]
    assert all((alone[k].margin or 0) < 0.1 for k in differing), differing


def test_beam_search_prefers_the_likelier_sequence() -> None:
    model = backend(tiny.checkpoint(1))
    found = list(model.predict(ask(4, beams=3, logprobs=True)))
    assert all(p.stop == "eos" and p.margin is None for p in found)
    alone = [p for r in ask(4, beams=3) for p in model.predict([r])]
    assert {p.id: p.text for p in alone} == {p.id: p.text for p in found}


def test_ties_in_beam_search_go_to_the_lower_beam_and_id() -> None:
    table = torch.tensor([[-1.0, -1.0, -3.0], [-1.0, -0.5, -9.0]])
    assert [c[:3] for c in expand(table, [0.0, -1.0], 2, 2)] == [(0, 0, -1.0), (0, 1, -1.0)]
    assert [c[:2] for c in expand(table, [0.0, 0.0], 4, 2)] == [(1, 1), (0, 0), (0, 1), (1, 0)]


# --- prompts and text ----------------------------------------------------------------------------


def test_prompt_ids() -> None:
    tokenizer = tiny.tokenizer()
    prompter = Prompter(tokenizer)
    newline, bos = prompter.newline[0], tokenizer.bos_token_id
    words = tokenizer("caption en", add_special_tokens=False)["input_ids"]
    assert prompter.encode("caption en", 32) == [bos, *words, newline]
    assert prompter.encode("caption en", None) == [bos, *words, newline]
    assert prompter.encode("caption en", 1 + len(words)) == [bos, *words]  # cut: the newline is lost
    assert prompter.encode("caption en", 2) == [bos, words[0]]
    assert prompter.encode("caption en\n", None) == [bos, *words, newline, newline]
    assert prompter.encode("", None) == [bos, newline]
    assert prompter.encode("caption en", 2, "hf") == [bos, *words, newline]  # never cut
    location = tokenizer.convert_tokens_to_ids("<loc0007>")
    assert prompter.encode("<loc0007><loc0008>", None) == [bos, location, location + 1, newline]


def test_hf_prompt_ids_are_the_processors() -> None:
    from transformers import PaliGemmaProcessor

    shape = tiny.image_processor(size={"height": 28, "width": 28}, image_seq_length=4)
    processor, prompter = PaliGemmaProcessor(shape, tiny.tokenizer()), Prompter(tiny.tokenizer())
    picture = np.zeros((28, 28, 3), dtype=np.uint8)
    image = [prompter.tokenizer.convert_tokens_to_ids("<image>")] * 4
    for prompt in (
        *PROMPTS,
        "caption en\n",
        "a\n\n",
        " a  cat ",
        "<loc0001><loc0002> cat",
        "caption <bos> en",
    ):
        theirs = processor(images=[[picture]], text=[f"<image>{prompt}"])["input_ids"][0]
        assert image + prompter.encode(prompt, 2, "hf") == list(theirs), prompt


@pytest.mark.parametrize("literal", ["<bos>", "<eos>", "<pad>", "<image>"])
def test_control_words_in_a_prompt_are_plain_text(literal: str) -> None:
    tokenizer = tiny.tokenizer()
    ids = Prompter(tokenizer).encode(f"a {literal} cat", None)
    assert tokenizer.convert_tokens_to_ids(literal) not in ids[1:]
    assert tokenizer.decode(ids[1:-1]) == f"a {literal} cat"
    assert tokenizer.convert_tokens_to_ids("<image>") not in Prompter(tokenizer).encode(
        "<image>a", None, "hf"
    )


def test_text_keeps_location_tokens_and_drops_control_tokens() -> None:
    tokenizer = tiny.tokenizer()
    prompter = Prompter(tokenizer)
    text = "<loc0001><loc1023><seg005> a cat ; <loc0000> dog"
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert prompter.decode([0, 2, *ids, 1, 0]) == text


def test_missing_special_tokens_are_added_as_the_processor_does(tmp_path: Path) -> None:
    from transformers import GemmaTokenizer

    words, merges = tiny.vocabulary()
    bare = GemmaTokenizer(vocab=words, merges=merges)
    prompter = Prompter(bare)
    assert prompter.tokenizer.convert_tokens_to_ids("<image>") == len(words)
    assert prompter.tokenizer.convert_tokens_to_ids("<loc0000>") == len(words) + 1
    assert prompter.tokenizer.get_vocab() == tiny.tokenizer().get_vocab()


def test_a_cut_prompt_is_answered() -> None:
    cut = by_id(backend(tiny.checkpoint(1)).predict(ask(3, text_length=2)))
    whole = by_id(backend(tiny.checkpoint(1)).predict(ask(3)))
    assert any(cut[k].tokens != whole[k].tokens for k in cut)
    assert all(cut[k].prompt == whole[k].prompt for k in cut)


# --- batches, memory, images ---------------------------------------------------------------------


def test_batches_are_of_equal_length_and_complete() -> None:
    items = [Planned(r, (2,) * (3 + i % 4)) for i, r in enumerate(ask(100))]
    batches = list(plan(items, Limit(8)))
    assert sorted(p.request.id for b in batches for p in b) == sorted(i.request.id for i in items)
    assert all(len(b) <= 8 and len({len(p.ids) for p in b}) == 1 for b in batches)


def test_out_of_memory_halves_and_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    wanted = by_id(backend(tiny.checkpoint(1), batch_size=1).predict(ask(24)))
    model = backend(tiny.checkpoint(1), batch_size=16)
    prefill, seen = plain.PlainEngine.prefill, []
    errors = [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate"),
    ]

    def limited(self: Any, prompts: Any, fixed: Any) -> Any:
        seen.append(len(prompts))
        if len(prompts) > 2:
            raise errors[len(seen) % 2]
        return prefill(self, prompts, fixed)

    monkeypatch.setattr(plain.PlainEngine, "prefill", limited)
    found = by_id(model.predict(ask(24)))
    assert {k: p.text for k, p in found.items()} == {k: p.text for k, p in wanted.items()}
    assert max(seen[-5:]) <= 2
    assert model.provenance()["batch_size"] == 2
    assert "out of memory" in caplog.text


def test_out_of_memory_alone_names_the_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(self: Any, prompts: Any, fixed: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(plain.PlainEngine, "prefill", never)
    with pytest.raises(ModelError, match=r"sample s0: .*memory"):
        list(backend(tiny.checkpoint(1), batch_size=4).predict(ask(1)))


def test_other_errors_are_not_taken_for_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(self: Any, prompts: Any, fixed: Any) -> Any:
        raise RuntimeError("shapes differ")

    monkeypatch.setattr(plain.PlainEngine, "prefill", wrong)
    with pytest.raises(RuntimeError, match="shapes differ"):
        list(backend(tiny.checkpoint(1)).predict(ask(2)))


def test_bad_images() -> None:
    def prepare(ref: Any, preparation: Any) -> Any:
        if ref.path == "2-0.jpg":
            raise ImageError("2-0.jpg: cannot be read")
        return tiny.prepare(ref, preparation)

    skipped: list[str] = []
    model = backend(tiny.checkpoint(1), prepare=prepare, batch_size=4)
    found = by_id(model.predict(ask(6), lambda request, error: skipped.append(f"{request.id} {error}")))
    assert sorted(found) == ["s0", "s1", "s3", "s4", "s5"]
    assert skipped == ["s2 2-0.jpg: cannot be read"]
    got: list[Prediction] = []
    with pytest.raises(ImageError, match="2-0"):
        got.extend(model.predict(ask(12)))
    assert "s8" in by_id(got)  # of the same batch as the bad one


def test_leaving_early_stops_reading() -> None:
    read: list[str] = []

    def prepare(ref: Any, preparation: Any) -> Any:
        read.append(ref.path)
        return tiny.prepare(ref, preparation)

    answers = backend(tiny.checkpoint(1), prepare=prepare, batch_size=2).predict(ask(200))
    next(answers)
    answers.close()
    assert len(read) <= 2 * 3 + 2


def test_predictions_tell_about_images() -> None:
    found = next(backend(tiny.checkpoint(1)).predict(ask(1, images=2)))
    assert found.image_digests == ("digest of 0-0.jpg", "digest of 0-1.jpg")
    assert found.sizes == ((480, 640), (480, 640))
    assert found.logprobs is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": ()}, "has no image"),
        ({"preparation": Preparation(448)}, "448 px, but this checkpoint takes 28 px"),
        ({"choices": ("a",)}, "choices and decode.mode=likelihood need each other"),
        ({"decode": Decode(mode="likelihood")}, "choices and decode.mode=likelihood need each other"),
        ({"decode": Decode(beams=2, forbid=("<eos>",))}, "forbid needs mode=generate"),
        ({"decode": Decode(max_new_tokens=0)}, "max_new_tokens"),
    ],
)
def test_requests_that_cannot_be_answered(change: dict[str, Any], message: str) -> None:
    one = ask(1)[0]
    fields = {n: getattr(one, n) for n in ("id", "images", "prompt", "preparation", "decode", "choices")}
    with pytest.raises(ModelError, match=message):
        list(backend(tiny.checkpoint(1)).predict([Request(**(fields | change))]))


def test_normalising_is_exact() -> None:
    values = np.arange(256, dtype=np.uint8)
    wanted = np.float32(-1) + values.astype(np.float32) / np.float32(255) * np.float32(2)
    assert (vision.normalise(torch.from_numpy(values)).numpy() == wanted).all()
