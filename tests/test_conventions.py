"""What checkpoints were trained with: masks and tokens of the prompt in both engines, `evalkit.yaml`, what a
run keeps and says of it."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from tiny import ask, backend, by_id

from evalkit import conventions
from evalkit.errors import ModelError
from evalkit.models.paligemma.checkpoint.info import inspect
from evalkit.models.paligemma.engine import attention, vision
from evalkit.models.paligemma.interface import Prompt
from evalkit.parsers.boxes import Boxes
from evalkit.parsers.text import Text
from evalkit.types import Conventions, ImageRef, Preparation

MASKS = ("bidirectional", "causal", "causal_image")
ENGINES = ("plain", "fast")
FED = (40, 11, 7)


@pytest.fixture(params=[1, 2], ids=["gemma", "gemma2"])
def folder(request: pytest.FixtureRequest) -> Path:
    return tiny.checkpoint(request.param)


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A checkpoint that may be changed."""
    return Path(shutil.copytree(tiny.checkpoint(1), tmp_path / "mine"))


# --- engines ---------------------------------------------------------------------------------------


def spelled_out(model: Any, prompt: Prompt, mask: str) -> torch.Tensor:
    """Logits (1 + FED, vocabulary) by one pass without cache, with the mask written down place by place."""
    plain = model._engine
    image = [plain.image_token] * plain.image_tokens * len(prompt.pixels)
    start = len(prompt.before) + len(image)
    prefix = start + len(prompt.ids)
    ids = torch.tensor([[*prompt.before, *image, *prompt.ids, *FED]])
    length = ids.shape[1]
    seen = torch.zeros(length, length, dtype=torch.bool)
    for query in range(length):
        for key in range(length):
            together = {"bidirectional": prefix, "causal": start, "causal_image": 0}[mask]
            seen[query, key] = key <= query or (key < together and query < together)
    inner = plain.model.model
    with torch.inference_mode():
        words = plain.model.get_input_embeddings()(
            ids.clamp(max=plain.model.config.text_config.vocab_size - 1)
        )
        pixels = vision.normalise(torch.from_numpy(prompt.pixels)).permute(0, 3, 1, 2)
        features = inner.multi_modal_projector(inner.vision_tower(pixels).last_hidden_state)
        words[0, len(prompt.before) : start] = features.flatten(0, 1)
        bias = torch.zeros(1, 1, length, length).masked_fill_(~seen, torch.finfo(torch.float32).min)
        kinds = ("full_attention", "sliding_attention")
        hidden = inner.language_model(
            inputs_embeds=words,
            attention_mask=bias if model.info.family == 1 else dict.fromkeys(kinds, bias),
            position_ids=torch.arange(length)[None] + model.rules.first_position,
            use_cache=False,
        ).last_hidden_state[0, prefix - 1 :]
        logits = plain.model.lm_head(hidden).float()
    cap = plain.cap
    return logits if cap is None else (logits / cap).tanh() * cap


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("bos", ["prompt", "image", "none"])
def test_logits_are_those_of_the_mask(folder: Path, mask: str, bos: str) -> None:
    trained = Conventions(prompt_mask=mask, bos=bos)
    pixels = tiny.prepare(ImageRef("a"), Preparation(28)).pixels[None]
    found = {}
    for engine in ENGINES:
        model = as_trained(backend(folder, engine=engine, protocol="hf"), trained)
        model.load()
        ids = tuple(model.encode("what is this a cat", None))
        asked = Prompt(pixels, ids, before=(2,) * (bos == "image"))
        assert (ids[0] == 2) is (bos == "prompt")
        if engine == "plain":
            wanted = spelled_out(model, asked, mask)
        with torch.inference_mode():
            logits, state = model._engine.prefill([asked], model.rules)
            rows = [logits[0].clone()]
            for token in FED:
                rows.append(model._engine.step(torch.tensor([token]), state)[0].clone())
        found[engine] = torch.stack(rows)
        assert torch.allclose(found[engine], wanted, atol=2e-4), engine


def as_trained(model: Any, trained: Conventions) -> Any:
    """The backend of a checkpoint whose evalkit.yaml says this."""
    model.info = dataclasses.replace(model.info, trained=trained)
    return model


@pytest.mark.parametrize(("family", "mask"), [(1, "causal_image"), (2, "causal")])
@pytest.mark.parametrize("decode", [{}, {"beams": 3}, {"mode": "likelihood"}])
def test_both_engines_in_any_batch(family: int, mask: str, decode: dict[str, Any]) -> None:
    folder = tiny.checkpoint(family)
    asked = ask(7, **decode)
    if decode.get("mode"):
        asked = [dataclasses.replace(r, choices=("a cat", "yes", "what is this")) for r in asked]

    def texts(**options: Any) -> dict[str, Any]:
        found = by_id(backend(folder, **options).predict(asked))
        return {k: (p.tokens, p.margin and round(p.margin, 3)) for k, p in found.items()}

    wanted = texts(engine="plain", batch_size=1, prompt_mask=mask)
    for size in (1, 5):
        assert texts(engine="fast", batch_size=size, prompt_mask=mask) == wanted
    if "beams" not in decode:  # whose short answers are the same
        assert texts(engine="fast") != wanted


def test_prompts_of_several_lengths_in_one_batch(folder: Path) -> None:
    """Left padding in the plain engine; groups of one length in the fast one."""
    pixels = tiny.prepare(ImageRef("a"), Preparation(28)).pixels[None]
    for engine in ENGINES:
        model = backend(folder, engine=engine, prompt_mask="causal")
        model.load()
        asked = [Prompt(pixels, tuple(model.encode(t, None)), before=(2,)) for t in ("a", "what is this", "")]
        with torch.inference_mode():
            together = model._engine.prefill(asked, model.rules)[0].clone()
            alone = [model._engine.prefill([p], model.rules)[0][0].clone() for p in asked]
        assert torch.allclose(together, torch.stack(alone), atol=2e-4), engine


def test_causal_queries_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A long causal prefix is read some rows at a time, and a window of Gemma 2's holds in each."""
    home = torch.device("cpu")

    def whole(length: int, free: int, window: int, begin: int = 0) -> list[list[bool]]:
        rows = []
        for a, b, seen in attention.causal_blocks(length, free, window, begin, home):
            mask = torch.ones(1, 1, b - a, b, dtype=torch.bool) if seen is None else seen
            rows += torch.nn.functional.pad(mask[0, 0], (0, length - b)).tolist()
        return rows

    monkeypatch.setattr(attention, "CAUSAL_ROWS", 3)
    for free, window in ((0, 99), (4, 99), (4, 2), (11, 99)):
        expected = [
            [(k < free and q < free) or (q >= free and q - window < k <= q) for k in range(11)]
            for q in range(11)
        ]
        assert whole(11, free, window) == expected
        assert whole(11, free, window, begin=10) == expected[10:]


@pytest.mark.parametrize("mask", MASKS[1:])
def test_gemma_2s_window_while_decoding_a_causal_prompt(mask: str) -> None:
    asked = ask(6)
    options: dict[str, Any] = {"prompt_mask": mask, "sliding_window": "transformers"}
    wanted = by_id(backend(tiny.checkpoint(2), engine="plain", **options).predict(asked))
    found = by_id(backend(tiny.checkpoint(2), engine="fast", **options).predict(asked))
    assert {k: p.tokens for k, p in found.items()} == {k: p.tokens for k, p in wanted.items()}


@pytest.mark.parametrize("protocol", ["paper", "hf"])
def test_without_newline_and_bos(folder: Path, protocol: str) -> None:
    usual = backend(folder, protocol=protocol).encode("a cat", 32)
    bare = as_trained(backend(folder, protocol=protocol), Conventions(newline=False, bos="none"))
    assert usual[1:-1] == bare.encode("a cat", 32)


def test_answers_without_an_end_token() -> None:
    """They end at a line break too, and choices are compared without the end token."""
    from evalkit.models.paligemma.batching import requests

    model = as_trained(backend(tiny.checkpoint(1)), Conventions(eos=False))
    model.load()
    asked = dataclasses.replace(ask(1, mode="likelihood")[0], choices=("a cat", "yes"))
    planned = requests.planned(asked, model._prompter, model.rules, model.info)
    assert all(1 not in choice for choice in planned.choices)
    (prediction,) = model.predict([asked])
    assert prediction.text in asked.choices
    assert tuple(model._prompter.continuation(prediction.text)) == prediction.tokens


# --- prompts and images ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "trained", "wanted"),
    [
        ("Answer EN What?", {"prompt_case": "lower"}, "answer en what?"),
        ("caption en", {"prompt_case": "capital"}, "Caption en"),
        ("answer en What is it?", {"question": "bare"}, "What is it?"),
        ("What is it?", {"question": "answer_en"}, "answer en What is it?"),
        ("caption en", {"question": "answer_en"}, "caption en"),
        ("detect cat", {"question": "answer_en"}, "detect cat"),
        ("", {"question": "answer_en"}, ""),
        ("detect dog ; Cat ; bird", {"class_order": "alphabetical"}, "detect bird ; Cat ; dog"),
        ("detect dog ; cat", {"class_separator": ", "}, "detect dog, cat"),
        ("segment dog;cat", {"class_separator": " ; "}, "segment dog ; cat"),
        ("detect dog;cat", {"class_separator": "kept"}, "detect dog;cat"),
        ("what is a ; b", {"class_separator": ", "}, "what is a ; b"),
        ("Answer en What?", {"question": "bare", "prompt_case": "lower"}, "what?"),
    ],
)
def test_prompts(text: str, trained: dict[str, Any], wanted: str) -> None:
    assert conventions.prompt(text, Conventions(**trained)) == wanted


def test_preparation() -> None:
    usual = Preparation(28, "bicubic", True, jpeg="precise")
    for resize, wanted in (("bilinear", ("bilinear", False)), ("antialiased", ("bilinear", True))):
        made = conventions.preparation(usual, Conventions(resize=resize, pad="white"))
        assert ((made.resize, made.antialias), made.pad, made.jpeg) == (wanted, "white", "precise")
    assert conventions.preparation(usual, Conventions()) == usual
    padded = Preparation(28, pad="white")
    assert conventions.preparation(padded, Conventions(pad="none")).pad == ""


def test_parser() -> None:
    assert conventions.parser(Boxes(form="first"), 1024) == Boxes(form="first", divisor=1024)
    assert conventions.parser(Boxes(), None) == Boxes()
    assert conventions.parser(Text(), 1024) == Text()


# --- evalkit.yaml ----------------------------------------------------------------------------------


def test_what_the_file_says_is_honoured(mine: Path) -> None:
    usual = backend(mine).identity()
    assert "conventions" not in usual
    (mine / "evalkit.yaml").write_text("prompt_mask: causal\nnewline: false\nbos: image\nprotocol: hf\n")
    model = backend(mine, engine="fast")
    assert model.as_checkpoint().protocol == "hf"
    assert model.identity()["conventions"] == {"prompt_mask": "causal", "newline": False, "bos": "image"}
    assert "prompt_mask causal, newline no, bos image" in model.as_checkpoint().about
    assert (model.rules.prompt_mask, model.rules.newline, model.rules.bos) == ("causal", False, "image")
    asked = ask(6)
    found = [p.tokens for p in model.predict(asked)]
    (mine / "evalkit.yaml").unlink()
    assert [p.tokens for p in backend(mine, engine="fast").predict(asked)] != found


def test_what_changes_nothing_is_not_identity(mine: Path) -> None:
    (mine / "evalkit.yaml").write_text(
        "prompt_mask: bidirectional\nnewline: true\nbos: prompt\nprompt_case: kept\nbins: 1023\neos: true\n"
    )
    assert "conventions" not in backend(mine).identity()


def test_an_option_counts_more_than_the_file(mine: Path, tmp_path: Path) -> None:
    (mine / "evalkit.yaml").write_text("prompt_mask: causal\n")
    other = tmp_path / "other.yaml"
    other.write_text("newline: false\n")
    assert backend(mine, prompt_mask="bidirectional").info.trained.prompt_mask == "bidirectional"
    assert backend(mine, conventions=str(other)).info.trained == Conventions(newline=False)
    with pytest.raises(ModelError, match=r"--conventions .*absent.yaml: no such file; it holds lines like"):
        _ = backend(mine, conventions=str(tmp_path / "absent.yaml")).info


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (
            "prompt_mask: casual",
            "prompt_mask: is 'casual'; it must be bidirectional or causal",
        ),
        ("promt_mask: causal", r"promt_mask: no such key; did you mean prompt_mask"),
        ("newline: 1", "newline: is '1'; it must be true or false"),
        ("bins: 1022", "bins: is '1022'; it must be 1023 or 1024"),
        ("bins: true", "bins: is 'True'; it must be 1023 or 1024"),
        ("eos: [a]", r"eos: is \"\['a'\]\"; it must be true or false"),
        ("class_separator: 5", "class_separator: is '5'; it must be"),
        ("protocol: PAPER", "protocol: is 'PAPER'; it must be paper or hf"),
        ("- causal", "must hold lines like 'protocol: hf' or 'prompt_mask: causal'"),
    ],
)
def test_a_wrong_file_is_refused(mine: Path, content: str, sentence: str) -> None:
    (mine / "evalkit.yaml").write_text(content)
    with pytest.raises(ModelError, match=rf"evalkit\.yaml: {sentence}"):
        inspect(mine)
