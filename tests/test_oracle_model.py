"""The plain engine against what the reference implementation was recorded to do, in float32."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from oracle_inputs import ABSENT, FOLDER, image

from evalkit.images import prepare, resize
from evalkit.models.paligemma.checkpoint import info as checkpoint_info
from evalkit.models.paligemma.decoding import beam_search
from evalkit.models.paligemma.engine import fast, plain, vision
from evalkit.models.paligemma.interface import Answer, Prompt, rules
from evalkit.types import Decode

if not (FOLDER / "models.json").is_file():
    pytest.skip(ABSENT, allow_module_level=True)

TIE = 2e-3  # top-2 gaps up to here may be decided either way
LOGITS, SCORES = 1e-3, 2e-3
PAPER = rules("paper", (1,))


@cache
def read(name: str) -> Any:
    return json.loads((FOLDER / name).read_text())


# Whatever models the folder records: more are kept back than come with it.
MODELS = tuple(read("models.json")["models"])
DECODED = tuple(read("decode_models.json")["models"])
EXTRA = tuple(dict.fromkeys(key.split("/")[0] for key in read("model_extra.json")["cases"]))
ENDS = tuple(dict.fromkeys(key.split("/")[0] for key in read("e2e.json")["results"]))


AnyEngine = plain.PlainEngine | fast.FastEngine
LOADERS = {"plain": plain.load, "fast": fast.load}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, checkpoint_info.CheckpointInfo]:
    """The oracle's weights as checkpoint folders."""
    found = {}
    for name in dict.fromkeys((*MODELS, *DECODED, *EXTRA, *ENDS)):
        folder: Path = tmp_path_factory.mktemp(name)
        (folder / "config.json").write_bytes((FOLDER / f"{name}.config.json").read_bytes())
        (folder / "model.safetensors").symlink_to((FOLDER / f"{name}.safetensors").resolve())
        (folder / "tokenizer.json").write_text("{}")  # these have none; only inspect() looks
        found[name] = checkpoint_info.inspect(folder)
    return found


@pytest.fixture(scope="module", params=LOADERS)
def engines(
    request: pytest.FixtureRequest, folders: dict[str, checkpoint_info.CheckpointInfo]
) -> dict[str, AnyEngine]:
    """The oracle's weights, loaded through the same path as any checkpoint."""
    return {name: LOADERS[request.param](info, "float32", "cpu") for name, info in folders.items()}


@pytest.fixture(scope="module")
def rounded(folders: dict[str, checkpoint_info.CheckpointInfo]) -> dict[str, fast.FastEngine]:
    """float32 models whose keys and values are rounded to bfloat16, as the reference's default cache."""
    return {n: fast.load(info, "float32", "cpu", kv_dtype="bfloat16") for n, info in folders.items()}


def prompts(images: list[Any], ids: list[list[int]], length: int) -> list[Prompt]:
    """Prompts of generated images (one spec or several each), cut to the text length."""
    several = [spec if isinstance(spec, list) else [spec] for spec in images]
    return [
        Prompt(np.stack([image(s) for s in specs]), tuple(row[:length]))
        for specs, row in zip(several, ids, strict=True)
    ]


def capped(logits: np.ndarray, engine: AnyEngine) -> np.ndarray:
    """Raw logits as a later decoding step would give them."""
    return logits if engine.cap is None else np.tanh(logits / engine.cap) * engine.cap


def agree(answers: list[Answer], tokens: list[list[int]], scores: list[float] | None = None) -> None:
    """Tokens equal, except where the greedy path met a near tie; scores of the equal rows close."""
    for row, (answer, wanted) in enumerate(zip(answers, tokens, strict=True)):
        if list(answer.tokens) != wanted:
            assert answer.margin is not None, row
            assert answer.margin <= TIE, (row, answer, wanted)
        elif scores is not None:
            assert sum(answer.logprobs) == pytest.approx(scores[row], abs=SCORES), row


def follow(engine: AnyEngine, asked: list[Prompt], tokens: np.ndarray) -> np.ndarray:
    """Logits (steps + 1, batch, vocabulary) with the given tokens (steps, batch) fed."""
    with torch.inference_mode():
        logits, state = engine.prefill(asked, PAPER)
        found = [logits]
        found += [engine.step(torch.from_numpy(np.int64(row)), state) for row in tokens]
    return torch.stack(found).numpy()


@pytest.mark.parametrize("name", MODELS)
def test_image_tokens(engines: dict[str, AnyEngine], name: str) -> None:
    pixels = torch.from_numpy(np.stack([image(s) for s in read("models.json")["models"][name]["images"]]))
    with torch.inference_mode():
        found = engines[name].features(pixels).numpy()
    wanted = np.load(FOLDER / f"model_{name}.npz")["zimg"]
    assert np.abs(found - wanted).max() <= LOGITS


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("batched", [True, False], ids=["left-padded batch", "one by one"])
def test_prefill_and_steps(engines: dict[str, AnyEngine], name: str, batched: bool) -> None:
    case, arrays = read("models.json")["models"][name], np.load(FOLDER / f"model_{name}.npz")
    asked = prompts(case["images"], case["prompts"], case["text_len"])
    tokens = arrays["f32_tokens"]
    if batched:
        found = follow(engines[name], asked, tokens[:-1])
    else:
        rows = [follow(engines[name], [p], tokens[:-1, i : i + 1]) for i, p in enumerate(asked)]
        found = np.concatenate(rows, axis=1)
    assert np.abs(found - arrays["f32_logits"]).max() <= LOGITS
    top = np.sort(arrays["f32_logits"], axis=-1)
    clear = top[..., -1] - top[..., -2] > TIE
    assert (found.argmax(-1) == tokens)[clear].all()


@pytest.mark.parametrize("name", MODELS)
def test_without_soft_cap(engines: dict[str, AnyEngine], name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case, arrays = read("models.json")["models"][name], np.load(FOLDER / f"model_{name}.npz")
    monkeypatch.setattr(engines[name], "cap", None)
    asked = prompts(case["images"], case["prompts"], case["text_len"])
    wanted = arrays["softcap0_logits"]
    found = follow(engines[name], asked, wanted.argmax(-1)[:-1])
    assert np.abs(found - wanted).max() <= LOGITS


@pytest.mark.parametrize("name", MODELS)
def test_teacher_forced(engines: dict[str, AnyEngine], name: str) -> None:
    """Each answer token's logits, the answer fed; the reference leaves all of these without soft cap."""
    case, arrays = read("models.json")["models"][name], np.load(FOLDER / f"model_{name}.npz")
    for row, (prefix, total) in enumerate(case["teacher_forced_prefix_and_total_len"]):
        text = arrays["tf_text"][row]
        asked = prompts(case["images"][row : row + 1], [text[:prefix].tolist()], prefix)
        found = follow(engines[name], asked, text[prefix : total - 1, None])[:, 0]
        wanted = arrays["tf_logits"][row, prefix - 1 : total - 1]
        wanted = np.concatenate([wanted[:1], capped(wanted[1:], engines[name])])
        assert np.abs(found - wanted).max() <= LOGITS


@pytest.mark.parametrize("name", EXTRA)
@pytest.mark.parametrize("frames", ["frames2", "frames3"])
def test_several_images(engines: dict[str, AnyEngine], name: str, frames: str) -> None:
    case = read("model_extra.json")["cases"][f"{name}/{frames}"]
    asked = prompts(case["images"], case["prompts"], case["text_len"])
    wanted = np.load(FOLDER / f"model_extra_{name}.npz")[f"{frames}_logits"]
    found = follow(engines[name], asked, wanted.argmax(-1)[:-1])
    assert np.abs(found - wanted).max() <= LOGITS
    answers = engines[name].answer(asked, Decode(case["max_decode_len"], logprobs=True), PAPER)
    agree(answers, case["greedy"], case["greedy_score"])


@pytest.mark.parametrize("name", EXTRA)
def test_suffix_goes_on(engines: dict[str, AnyEngine], name: str) -> None:
    """A suffix that is already there is read causally, and decoding goes on after it."""
    case = read("model_extra.json")["cases"][f"{name}/suffix"]
    wanted = np.load(FOLDER / f"model_extra_{name}.npz")["suffix_logits"]
    for row, suffix in enumerate(case["suffixes"]):
        asked = prompts(case["images"][row : row + 1], [case["prefixes"][row]], case["text_len"])
        fed = np.concatenate([np.array(suffix), wanted[:, row].argmax(-1)[:-1]])
        found = follow(engines[name], asked, fed[:, None])[len(suffix) :, 0]
        # The reference reads the suffix in its prefill, whose logits it leaves without soft cap.
        rows = np.concatenate([capped(wanted[:1, row], engines[name]), wanted[1:, row]])
        assert np.abs(found - rows).max() <= LOGITS
        assert wanted[: len(case["greedy"][row]), row].argmax(-1).tolist()[:6] == case["greedy"][row][:6]


@pytest.mark.parametrize("name", DECODED)
@pytest.mark.parametrize("rows", [48, 5, 1])
def test_greedy(engines: dict[str, AnyEngine], name: str, rows: int) -> None:
    case = read("decode_models.json")["models"][name]
    asked = prompts(case["images"], case["prompts"], case["text_len"])
    decode, answers = Decode(case["max_decode_len"], logprobs=True), []
    for start in range(0, len(asked), rows):
        answers += engines[name].answer(asked[start : start + rows], decode, PAPER)
    agree(answers, case["float32"]["greedy"], case["float32"]["greedy_score"])


@pytest.mark.parametrize("name", DECODED)
@pytest.mark.parametrize("beams", [2, 3])
def test_beam(engines: dict[str, AnyEngine], name: str, beams: int) -> None:
    case = read("decode_models.json")["models"][name]
    asked = prompts(case["images"], case["prompts"], case["text_len"])
    answers = engines[name].answer(asked, Decode(case["max_decode_len"], beams=beams), PAPER)
    assert [list(a.tokens) for a in answers] == case["float32"][f"beam{beams}"]
    found = [sum(a.logprobs) for a in answers]
    assert found == pytest.approx(case["float32"][f"beam{beams}_score"], abs=SCORES)


@cache
def end_to_end_prompts(antialias: bool) -> list[Prompt]:
    """The 36 prompts of e2e.json: image i with prompt k stands in row 3·i + k."""
    case = read("e2e.json")
    found = []
    for index, spec in enumerate(case["images"]):
        encoded = spec["png_base64"]
        pixels = prepare.decode(base64.b64decode(encoded)) if encoded else image(spec)
        small = resize.resize(pixels, 224, "bilinear", antialias)
        wanted = case["resized_uint8_sha256"]["aa" if antialias else "na"][index]
        assert hashlib.sha256(small.tobytes()).hexdigest() == wanted, index
        for ids in case["prompts"]:
            text = [case["bos"], *ids, case["newline"]][: case["text_len"]]
            found.append(Prompt(small[None], tuple(text)))
    return found


@pytest.mark.parametrize("name", ENDS)
@pytest.mark.parametrize("antialias", [False, True], ids=["na", "aa"])
def test_image_to_greedy_tokens(engines: dict[str, AnyEngine], name: str, antialias: bool) -> None:
    asked, case = end_to_end_prompts(antialias), read("e2e.json")
    wanted = case["results"][f"{name}/{'aa' if antialias else 'na'}/float32"]
    engine, decode, answers = engines[name], Decode(case["max_decode_len"], logprobs=True), []
    for start in range(0, len(asked), 9):
        part = asked[start : start + 9]
        with torch.inference_mode():
            logits = engine.prefill(part, PAPER)[0][:, :8].numpy()
        assert np.abs(logits - np.array(wanted["prefill_logits_first8"][start : start + 9])).max() <= LOGITS
        answers += engine.answer(part, decode, PAPER)
    agree(answers, wanted["greedy"], wanted["greedy_score"])
    assert [a.margin for a in answers] == pytest.approx(wanted["min_top2_gap"], abs=SCORES)


@pytest.mark.parametrize("name", ENDS)
@pytest.mark.parametrize("antialias", [False, True], ids=["na", "aa"])
@pytest.mark.parametrize("beams", [2, 3])
def test_image_to_beam_tokens(engines: dict[str, AnyEngine], name: str, antialias: bool, beams: int) -> None:
    asked, case = end_to_end_prompts(antialias), read("e2e.json")
    wanted = case["results"][f"{name}/{'aa' if antialias else 'na'}/float32"]
    answers = engines[name].answer(asked, Decode(case["max_decode_len"], beams=beams), PAPER)
    assert [list(a.tokens) for a in answers] == wanted[f"beam{beams}"]
    assert [sum(a.logprobs) for a in answers] == pytest.approx(wanted[f"beam{beams}_score"], abs=SCORES)


@pytest.mark.parametrize("name", MODELS)
def test_bfloat16_cache_logits(rounded: dict[str, fast.FastEngine], name: str) -> None:
    """A number on the edge between two bfloat16 neighbours may round either way: bounded, not exact."""
    case, arrays = read("models.json")["models"][name], np.load(FOLDER / f"model_{name}.npz")
    asked = prompts(case["images"], case["prompts"], case["text_len"])
    found = follow(rounded[name], asked, arrays["bf16cache_tokens"][:-1])
    apart = np.abs(found - arrays["bf16cache_logits"])
    unrounded = np.abs(arrays["f32_logits"] - arrays["bf16cache_logits"])
    assert np.median(apart) <= LOGITS
    assert apart.mean() <= unrounded.mean() / 4
    top = np.sort(arrays["bf16cache_logits"], axis=-1)
    clear = top[..., -1] - top[..., -2] > 2 * apart.max()
    assert (found.argmax(-1) == arrays["bf16cache_tokens"])[clear].all()


def test_bfloat16_cache_rows(rounded: dict[str, fast.FastEngine]) -> None:
    """At least 97 % of all greedy and beam answers equal those with the reference's default cache."""
    equal = total = 0
    models, ends = read("decode_models.json")["models"], read("e2e.json")
    cases = []
    for name, case in models.items():
        asked = prompts(case["images"], case["prompts"], case["text_len"])
        cases.append((name, asked, case["max_decode_len"], case["bfloat16"]))
    for name in ENDS:
        for antialias, short in ((False, "na"), (True, "aa")):
            wanted = ends["results"][f"{name}/{short}/bfloat16"]
            cases.append((name, end_to_end_prompts(antialias), ends["max_decode_len"], wanted))
    for name, asked, length, wanted in cases:
        for beams, key in ((1, "greedy"), (2, "beam2"), (3, "beam3")):
            if key not in wanted:
                continue
            answers = rounded[name].answer(asked, Decode(length, beams=beams), PAPER)
            equal += sum(list(a.tokens) == w for a, w in zip(answers, wanted[key], strict=True))
            total += len(asked)
    print(f"bfloat16 cache: {equal} of {total} rows equal")
    assert equal >= 0.97 * total


@pytest.mark.parametrize("name", EXTRA)
def test_forbidden_tokens(engines: dict[str, AnyEngine], name: str) -> None:
    case = read("model_extra.json")["cases"][f"{name}/mask_logits"]
    never = tuple((token,) for token in case["banned"])
    asked = [replace(p, forbid=never) for p in prompts(case["images"], case["prompts"], case["text_len"])]
    answers = engines[name].answer(asked, Decode(case["max_decode_len"], logprobs=True), PAPER)
    assert [list(a.tokens) for a in answers] == case["tokens"]
    assert np.abs(np.array([a.logprobs for a in answers]) - np.array(case["logp"])).max() <= SCORES


@pytest.mark.parametrize("beams", [1, 2, 3, 4])
def test_beam_on_a_stub(beams: int) -> None:
    tables = np.load(FOLDER / "beam_stub_tables.npz")
    for case in read("beam_stub.json")["cases"]:
        logp = torch.log_softmax(torch.from_numpy(tables[case["table"]]), dim=-1)
        live = list(case["start"])

        def step(
            rows: list[int], tokens: list[int], live: list[int] = live, logp: torch.Tensor = logp
        ) -> torch.Tensor:
            live[:] = [(live[r] * 31 + t * 7 + 3) % 997 for r, t in zip(rows, tokens, strict=True)]
            return logp[live]

        searches = [beam_search.Search(beams, case["max_decode_len"], 1) for _ in live]
        beam_search.search(logp[live], step, searches)
        assert [s.tokens for s in searches] == case[f"beam{beams}"], (case["table"], case["max_decode_len"])
        scores = [sum(s.logprobs) for s in searches]
        assert scores == pytest.approx(case[f"beam{beams}_score"], abs=1e-4)


def test_pixels_are_normalised_as_the_reference() -> None:
    checked = 0
    for case in read("resize.json")["cases"]:
        if case["res"] != 224:
            continue
        pixels = resize.resize(image(case), 224, "bilinear", case["antialias"])
        values = vision.normalise(torch.from_numpy(pixels)).numpy()
        assert hashlib.sha256(values.tobytes()).hexdigest() == case["value_range_sha256"], case["id"]
        checked += 1
    assert checked
