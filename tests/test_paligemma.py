"""The PaliGemma backend on tiny random checkpoints: batches, protocols, identity and what it refuses."""

from __future__ import annotations

import json
import logging
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch

from evalkit.errors import ImageError, ModelError
from evalkit.models.paligemma import PaliGemma, inspect, plain
from evalkit.models.paligemma.batches import Limit, Planned, plan
from evalkit.models.paligemma.beam import expand
from evalkit.models.paligemma.engine import Prompt
from evalkit.models.paligemma.prompt import Prompter, rules
from evalkit.types import Decode, ImageRef, Prediction, Preparation, Request

PROMPTS = ["caption en", "what is this a cat", "answer what is", "detect cat ; dog", "segment dog", ""]


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """A PaliGemma and a PaliGemma 2 checkpoint; the second's config has a window of 4 tokens."""
    return {f: tiny.build(tmp_path_factory.mktemp(f"pg{f}"), f, seed=f) for f in (1, 2)}


@pytest.fixture
def broken(folders: dict[int, Path], tmp_path: Path) -> Path:
    """A copy to be damaged."""
    shutil.copytree(folders[1], tmp_path / "copy")
    return tmp_path / "copy"


def backend(folder: Path, **options: Any) -> PaliGemma:
    return PaliGemma(str(folder), **{"prepare": tiny.prepare, **options})


def ask(n: int, images: int = 1, **decode: Any) -> list[Request]:
    return [
        Request(
            f"s{i}",
            tuple(ImageRef(f"{i}-{k}.jpg") for k in range(images)),
            PROMPTS[i % len(PROMPTS)],
            Preparation(28),
            Decode(**{"max_new_tokens": 8, **decode}),
        )
        for i in range(n)
    ]


def by_id(predictions: Any) -> dict[str, Prediction]:
    return {p.id: p for p in predictions}


# --- answers do not depend on their company ------------------------------------------------------


@pytest.mark.parametrize("family", [1, 2])
@pytest.mark.parametrize("images", [1, 2])
def test_batch_size_and_order_change_nothing(folders: dict[int, Path], family: int, images: int) -> None:
    asked = ask(23, images, logprobs=True)
    alone = by_id(backend(folders[family], batch_size=1).predict(asked))
    assert len({p.text for p in alone.values()}) > 5  # the model tells prompts and images apart
    shuffled = random.Random(5).sample(asked, len(asked))
    for size, requests in ((3, asked), (16, asked), (16, shuffled)):
        found = by_id(backend(folders[family], batch_size=size).predict(requests))
        assert found.keys() == alone.keys()
        for name, one in alone.items():
            other = found[name]
            assert (other.text, other.tokens, other.stop) == (one.text, one.tokens, one.stop)
            assert other.margin == pytest.approx(one.margin, abs=1e-4)
            assert other.logprobs == pytest.approx(one.logprobs, abs=1e-4)


@pytest.mark.parametrize("family", [1, 2])
def test_left_padding_changes_no_logits(folders: dict[int, Path], family: int) -> None:
    model = backend(folders[family])
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
def test_hf_protocol_equals_generate(folders: dict[int, Path], family: int) -> None:
    """Greedy tokens and log-probabilities of transformers' own `generate`, one prompt at a time."""
    model = backend(folders[family], protocol="hf")
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
            pixel_values=plain.normalise(pixels).permute(0, 3, 1, 2),
            max_new_tokens=8,
            do_sample=False,
            output_logits=True,
            return_dict_in_generate=True,
        )
        new = out.sequences[0, len(ids) :].tolist()
        mine = found[request.id]
        assert list(mine.tokens) == [t for t in new if t not in model.rules.eos]
        logits = torch.stack(out.logits)[: len(mine.tokens), 0].float()
        wanted = torch.log_softmax(logits, -1)[range(len(mine.tokens)), list(mine.tokens)]
        assert mine.logprobs == pytest.approx(wanted.tolist(), abs=1e-3)
        two = torch.stack(out.logits)[:, 0].topk(2).values
        assert mine.margin == pytest.approx(float((two[:, 0] - two[:, 1]).min()), abs=1e-3)


def test_no_window_is_left_in_paligemma_2(folders: dict[int, Path]) -> None:
    model = backend(folders[2])
    model.load()
    assert isinstance(model._engine, plain.PlainEngine)
    assert inspect(folders[2]).path == folders[2]
    assert json.loads((folders[2] / "config.json").read_text())["text_config"]["sliding_window"] == 4
    assert model._engine.model.config.text_config.sliding_window == plain.WINDOW


def test_answers_end_at_the_end_token(folders: dict[int, Path]) -> None:
    model = backend(folders[1])
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
def test_bfloat16_answers_in_equal_batches_as_alone(folders: dict[int, Path], family: int) -> None:
    asked = ask(12)
    alone = by_id(backend(folders[family], batch_size=1, dtype="bfloat16").predict(asked))
    found = by_id(backend(folders[family], batch_size=8, dtype="bfloat16").predict(asked))
    differing = [k for k in alone if alone[k].text != found[k].text]
    assert all((alone[k].margin or 0) < 0.1 for k in differing), differing


def test_beam_search_prefers_the_likelier_sequence(folders: dict[int, Path]) -> None:
    model = backend(folders[1])
    found = list(model.predict(ask(4, beams=3, logprobs=True)))
    assert all(p.stop == "eos" and p.margin is None for p in found)
    parents, tokens, sums = expand(torch.tensor([[-1.0, -1.0, -3.0], [-1.0, -0.5, -9.0]]), [0.0, -1.0], 2, 2)
    assert (parents, tokens, sums) == ([0, 0], [0, 1], [-1.0, -1.0])


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


def test_a_cut_prompt_is_answered(folders: dict[int, Path]) -> None:
    cut = by_id(backend(folders[1]).predict(ask(3, text_length=2)))
    whole = by_id(backend(folders[1]).predict(ask(3)))
    assert any(cut[k].tokens != whole[k].tokens for k in cut)
    assert all(cut[k].prompt == whole[k].prompt for k in cut)


# --- batches, memory, images ---------------------------------------------------------------------


def test_batches_are_of_equal_length_and_complete() -> None:
    items = [Planned(r, (2,) * (3 + i % 4)) for i, r in enumerate(ask(100))]
    batches = list(plan(items, Limit(8)))
    assert sorted(p.request.id for b in batches for p in b) == sorted(i.request.id for i in items)
    assert all(len(b) <= 8 and len({len(p.ids) for p in b}) == 1 for b in batches)


def test_out_of_memory_halves_and_goes_on(
    folders: dict[int, Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    wanted = by_id(backend(folders[1], batch_size=1).predict(ask(24)))
    model = backend(folders[1], batch_size=16)
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


def test_out_of_memory_alone_names_the_sample(
    folders: dict[int, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(self: Any, prompts: Any, fixed: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(plain.PlainEngine, "prefill", never)
    with pytest.raises(ModelError, match=r"sample s0: .*memory"):
        list(backend(folders[1], batch_size=4).predict(ask(1)))


def test_other_errors_are_not_taken_for_memory(
    folders: dict[int, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(self: Any, prompts: Any, fixed: Any) -> Any:
        raise RuntimeError("shapes differ")

    monkeypatch.setattr(plain.PlainEngine, "prefill", wrong)
    with pytest.raises(RuntimeError, match="shapes differ"):
        list(backend(folders[1]).predict(ask(2)))


def test_bad_images(folders: dict[int, Path]) -> None:
    def prepare(ref: Any, preparation: Any) -> Any:
        if ref.path == "2-0.jpg":
            raise ImageError("2-0.jpg: cannot be read")
        return tiny.prepare(ref, preparation)

    skipped: list[str] = []
    model = backend(folders[1], prepare=prepare, batch_size=4)
    found = by_id(model.predict(ask(6), lambda request, error: skipped.append(f"{request.id} {error}")))
    assert sorted(found) == ["s0", "s1", "s3", "s4", "s5"]
    assert skipped == ["s2 2-0.jpg: cannot be read"]
    got: list[Prediction] = []
    with pytest.raises(ImageError, match="2-0"):
        got.extend(model.predict(ask(12)))
    assert "s8" in by_id(got)  # of the same batch as the bad one


def test_leaving_early_stops_reading(folders: dict[int, Path]) -> None:
    read: list[str] = []

    def prepare(ref: Any, preparation: Any) -> Any:
        read.append(ref.path)
        return tiny.prepare(ref, preparation)

    answers = backend(folders[1], prepare=prepare, batch_size=2).predict(ask(200))
    next(answers)
    answers.close()
    assert len(read) <= 2 * 3 + 2


def test_predictions_tell_about_images(folders: dict[int, Path]) -> None:
    found = next(backend(folders[1]).predict(ask(1, images=2)))
    assert found.image_digests == ("digest of 0-0.jpg", "digest of 0-1.jpg")
    assert found.sizes == ((480, 640), (480, 640))
    assert found.logprobs is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": ()}, "has no image"),
        ({"preparation": Preparation(448)}, "448 px, this checkpoint takes 28 px"),
        ({"choices": ("a",)}, "choices"),
        ({"decode": Decode(max_new_tokens=0)}, "max_new_tokens"),
    ],
)
def test_requests_that_cannot_be_answered(
    folders: dict[int, Path], change: dict[str, Any], message: str
) -> None:
    one = ask(1)[0]
    fields = {n: getattr(one, n) for n in ("id", "images", "prompt", "preparation", "decode", "choices")}
    with pytest.raises(ModelError, match=message):
        list(backend(folders[1]).predict([Request(**(fields | change))]))


# --- what a checkpoint is ------------------------------------------------------------------------


def test_inspect(folders: dict[int, Path]) -> None:
    one, two = inspect(folders[1]), inspect(folders[2])
    assert (one.family, one.resolution, one.patch, one.image_tokens) == (1, 28, 14, 4)
    assert (one.attention, two.attention, one.dtype) == ("sdpa", "eager", "float32")
    assert two.describe().startswith("PaliGemma 2, 28 px (4 image tokens)")
    assert two.eos == (1, 107)


def test_inspecting_and_hashing_import_nothing_heavy(folders: dict[int, Path]) -> None:
    code = (
        "import sys; from evalkit.models.paligemma import PaliGemma, inspect\n"
        f"m = PaliGemma({str(folders[1])!r}); m.info.describe(); m.identity(); m.as_checkpoint()\n"
        "heavy = {'torch', 'transformers', 'tokenizers', 'scipy', 'pandas'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_identity_names_what_decides_the_text(folders: dict[int, Path]) -> None:
    one = backend(folders[1])
    identity = dict(one.identity())
    assert json.loads(json.dumps(identity)) == identity
    assert identity == dict(backend(folders[1], batch_size=3, workers=1).identity())
    assert identity != dict(backend(folders[1], dtype="bfloat16").identity())
    assert identity != dict(backend(folders[1], protocol="hf").identity())
    assert identity["weights"] != backend(folders[2]).identity()["weights"]
    assert "device" not in identity
    other = one.under("hf")
    assert (one.protocol, other.protocol) == ("paper", "hf")
    one.load()
    assert one.under("hf")._engine is one._engine
    assert {"device", "torch", "transformers", "batch_size", "threads"} <= one.provenance().keys()


def test_as_checkpoint(folders: dict[int, Path], broken: Path) -> None:
    made = backend(folders[2]).as_checkpoint()
    assert (made.resolution, made.protocol, made.name) == (28, "", folders[2].name)
    assert made.identity("paper")["protocol"]["eos"] == [1]
    assert made.identity("hf")["protocol"]["eos"] == [1, 107]
    assert made.load("hf")._engine is made.load("paper")._engine  # type: ignore[attr-defined]
    (broken / "evalkit.yaml").write_text("protocol: hf\n")
    assert backend(broken).as_checkpoint("mine").protocol == "hf"
    (broken / "evalkit.yaml").write_text("protokoll: hf\n")
    with pytest.raises(ModelError, match=r"evalkit\.yaml"):
        inspect(broken)


def _rename(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def _shards(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    weights = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weights}))


def _truncate(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-10])


def _adapter(folder: Path) -> None:
    (folder / "config.json").rename(folder / "adapter_config.json")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_rename, "only pickled weights"),
        (_shards, "1 of 2 weight files .* missing: model-00002"),
        (_truncate, "its header says"),
        (_adapter, "only an adapter"),
        (lambda f: (f / "config.json").unlink(), "config.json is missing"),
        (lambda f: (f / "config.json").write_text("{"), "cannot be read as JSON"),
        (lambda f: (f / "model.safetensors").unlink(), "no weights"),
        (
            lambda f: (f / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1"),
            "git lfs",
        ),
        (lambda f: (f / "model.safetensors").write_bytes(b"x" * 300), "no safetensors file"),
        (lambda f: (f / "tokenizer.json").unlink(), "tokenizer is missing"),
        (lambda f: tiny.edit(f, model_type="llava"), "model_type is 'llava'"),
        (lambda f: tiny.edit(f, text_config__model_type="gemma3_text"), "text_config.model_type"),
        (lambda f: tiny.edit(f, vision_config__image_size=56), r"positions for 4 \(28 px\)"),
        (lambda f: tiny.edit(f, vision_config__patch_size=15), "no multiple"),
        (lambda f: tiny.edit(f, text_config__vocab_size=99), "vocab_size is 99"),
        (lambda f: tiny.edit(f, quantization_config={"bits": 4}), "quantised"),
    ],
)
def test_damaged_checkpoints(broken: Path, damage: Any, message: str) -> None:
    damage(broken)
    with pytest.raises(ModelError, match=message) as caught:
        inspect(broken)
    assert str(broken) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_folders_that_are_none(folders: dict[int, Path], tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such folder"):
        _ = backend(tmp_path / "nowhere").info
    with pytest.raises(ModelError, match="is a file"):
        _ = backend(folders[1] / "config.json").info
    with pytest.raises(ModelError, match="a local folder has no revisions"):
        _ = backend(folders[1], revision="main").info
    with pytest.raises(ModelError, match="--resolution 448: this checkpoint takes 28 px"):
        _ = backend(folders[1], resolution=448).info
    assert backend(folders[1], resolution=28).info.resolution == 28


def test_hub_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def offline(*args: Any, **kwargs: Any) -> Any:
        raise huggingface_hub.errors.OfflineModeIsEnabled("offline")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    with pytest.raises(ModelError, match="someone/thing@abc: no such folder here, and the hub cannot be"):
        _ = PaliGemma("someone/thing", revision="abc").info


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"dtype": "float8"}, "--dtype float8"),
        ({"engine": "warp"}, "--engine warp"),
        ({"protocol": "papr"}, "did you mean paper"),
        ({"batch_size": 0}, "--batch-size 0"),
        ({"batch_size": "many"}, "--batch-size many"),
        ({"workers": 0}, "workers=0"),
    ],
)
def test_wrong_options(option: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        PaliGemma("x", **option)


# --- start-up checks -----------------------------------------------------------------------------


def test_float16_warns(folders: dict[int, Path], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="evalkit"):
        backend(folders[1], dtype="float16").load()
    assert "overflow in float16" in caplog.text


def test_numbers_that_are_not_finite_are_never_an_answer(folders: dict[int, Path]) -> None:
    model = backend(folders[1])
    model.load()
    assert isinstance(model._engine, plain.PlainEngine)
    with torch.no_grad():
        model._engine.model.model.multi_modal_projector.linear.bias.fill_(float("inf"))
    with pytest.raises(ModelError, match="not finite"):
        list(model.predict(ask(1)))


def test_missing_tensors_are_refused(broken: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(broken / "model.safetensors")
    gone = next(k for k in weights if "layers.1.mlp.up_proj" in k)
    del weights[gone]
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"1 weights are missing .*up_proj"):
        backend(broken).load()


def test_word_level_tokenizer_is_refused(broken: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {w: i for i, w in enumerate(["<pad>", "<eos>", "<bos>", "<unk>", "\n", "a"])}
    raw = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.Split("\n", "isolated")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (broken / name).unlink()
    PreTrainedTokenizerFast(
        tokenizer_object=raw, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>", unk_token="<unk>"
    ).save_pretrained(broken)
    with pytest.raises(ModelError, match=r"tokenizer: (writes|<image> has id|.* rows)"):
        backend(broken).load()


def test_image_token_of_another_checkpoint(broken: Path) -> None:
    tiny.edit(broken, image_token_index=7)
    with pytest.raises(ModelError, match=r"<image> has id .* says 7"):
        backend(broken).load()


def test_scattered_location_tokens(tmp_path: Path) -> None:
    from transformers import GemmaTokenizer

    words, merges = tiny.vocabulary()
    tok = GemmaTokenizer(vocab=words, merges=merges)
    tok.add_special_tokens({"additional_special_tokens": ["<image>"]})
    tok.add_tokens(["<loc0005>"])
    tok.add_tokens([f"<loc{i:04d}>" for i in range(1024)] + [f"<seg{i:03d}>" for i in range(128)])
    folder = tiny.build(tmp_path / "scattered", tok=tok)
    with pytest.raises(ModelError, match="do not follow one another"):
        backend(folder).load()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"image_mean": [0.48, 0.45, 0.4]}, "image_mean"),
        ({"size": {"height": 448, "width": 448}}, "size is 448 px"),
        ({"image_seq_length": 256}, "image_seq_length is 256"),
    ],
)
def test_processor_of_another_checkpoint(broken: Path, content: dict[str, Any], message: str) -> None:
    (broken / "preprocessor_config.json").write_text(json.dumps(content))
    with pytest.raises(ModelError, match=message):
        backend(broken).load()


def test_a_tokenizer_that_pads_right_still_answers_right(
    folders: dict[int, Path], broken: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = broken / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"padding_side": "right"}))
    wanted = by_id(backend(folders[1]).predict(ask(6)))
    assert by_id(backend(broken).predict(ask(6))) == wanted
    assert "pads on the right" in caplog.text


def test_normalising_is_exact() -> None:
    values = np.arange(256, dtype=np.uint8)
    wanted = np.float32(-1) + values.astype(np.float32) / np.float32(255) * np.float32(2)
    assert (plain.normalise(torch.from_numpy(values)).numpy() == wanted).all()
