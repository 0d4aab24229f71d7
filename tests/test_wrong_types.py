"""Files of a checkpoint that are damaged, or hold other types than they should: one sentence that names the
file, and never a traceback, from `inspect` to the first answer."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny
from test_adapter import lora
from tiny import ask, backend

from evalkit.cli.main import main
from evalkit.errors import ModelError, UserError
from evalkit.models.paligemma import inspect
from evalkit.models.paligemma.checkpoint import safetensors
from evalkit.models.paligemma.checkpoint.lora import inspect as inspect_adapter


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny.checkpoint(1), tmp_path / "m"))


def told(act: Callable[[], Any]) -> str:
    """The sentence of a UserError; '' if there is none. Any other exception fails the test."""
    try:
        act()
    except UserError as error:
        said = str(error)
        assert "\n" not in said
        assert said.isprintable()
        assert len(said) < 500
        return said
    return ""


def answer(folder: Path) -> None:
    model = backend(folder, engine="fast")
    model.identity()
    list(model.predict(ask(1)))


# --- each key of another type --------------------------------------------------------------------

VALUES = [
    None,
    True,
    -1,
    0,
    7,
    1.5,
    "x",
    "",
    [],
    {},
    [1],
    ["x"],
    {"a": 1},
    10**30,
    [[1]],
    float("nan"),
    "\x1b[31m\n",
]
WRONG: list[tuple[str, str, Any, str]] = [
    ("config.json", "text_config", "gemma", r'config.json: text_config: is "gemma"; it must be an object'),
    ("config.json", "text_config", ["gemma"], "text_config: .* must be an object"),
    ("config.json", "vision_config", 5, "vision_config: is 5; it must be an object"),
    ("config.json", "model_type", ["paligemma"], "model_type is .* only 'paligemma'"),
    ("config.json", "text_config__model_type", ["gemma"], "model_type: .* must be text"),
    (
        "config.json",
        "image_token_index",
        "<image>",
        r'image_token_index: is "<image>"; it must be a whole number',
    ),
    ("config.json", "image_token_index", -1, "image_token_index: is -1; it must be a whole number from 0"),
    ("config.json", "image_token_index", 1e400, "image_token_index: is Infinity"),
    ("config.json", "image_token_index", True, "image_token_index: is true"),
    ("config.json", "text_config__vocab_size", "many", 'vocab_size: is "many"; it must be a whole number'),
    ("config.json", "text_config__vocab_size", [1], "vocab_size: is"),
    (
        "config.json",
        "text_config__num_hidden_layers",
        0,
        "num_hidden_layers: is 0; it must be a whole number from 1",
    ),
    ("config.json", "vision_config__num_attention_heads", -1, "num_attention_heads: is -1"),
    (
        "config.json",
        "vision_config__image_size",
        "28",
        'image_size: is "28"; it must be a whole number from 1',
    ),
    ("config.json", "vision_config__patch_size", 0, "patch_size: is 0; it must be a whole number from 1"),
    ("config.json", "vision_config__patch_size", [14, 14], "patch_size: is"),
    ("generation_config.json", "eos_token_id", "<eos>", r'generation_config.json: eos_token_id: is "<eos>"'),
    ("generation_config.json", "eos_token_id", [[1]], "eos_token_id: .* or a list of them"),
    ("generation_config.json", "eos_token_id", {"a": 1}, "eos_token_id: "),
    ("generation_config.json", "eos_token_id", [], r"eos_token_id: is \[\]; it must be"),
    ("generation_config.json", "eos_token_id", -1, "eos_token_id: is -1"),
    ("preprocessor_config.json", "image_mean", "half", r'preprocessor_config.json: image_mean: is "half"'),
    ("preprocessor_config.json", "image_mean", ["a"], "image_mean: "),
    ("preprocessor_config.json", "image_processor", [1], "image_processor: .* must be an object"),
    ("preprocessor_config.json", "size", {"height": "28"}, 'height: is "28"'),
    ("preprocessor_config.json", "image_seq_length", "4", 'image_seq_length: is "4"'),
]


@pytest.mark.parametrize(("name", "key", "value", "sentence"), WRONG)
def test_a_value_of_another_type_is_named(
    folder: Path, name: str, key: str, value: Any, sentence: str
) -> None:
    put(folder / name, tuple(key.split("__")), value)
    with pytest.raises(ModelError, match=sentence) as caught:
        backend(folder).load()
    assert str(folder / name) in str(caught.value)


def put(file: Path, path: tuple[str, ...], value: Any) -> None:
    content = json.loads(file.read_text()) if file.is_file() else {}
    if not path:
        content = value
    else:
        place = content
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value
    file.write_text(json.dumps(content))


def places(content: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    if isinstance(content, dict):
        for key in content:
            yield from places(content[key], (*path, key))


@pytest.mark.parametrize(
    "name", ["config.json", "generation_config.json", "tokenizer_config.json", "tokenizer.json"]
)
@pytest.mark.parametrize("seed", [0, 1, 2])  # a seed that found something stays
def test_any_value_anywhere_is_told_in_a_sentence(folder: Path, name: str, seed: int) -> None:
    """All keys and values once took four minutes; these are a few of them."""
    content = json.loads((folder / name).read_text())
    keys = [p for p in places(content) if name != "tokenizer.json" or len(p) < 3]
    rng = random.Random(f"{name} {seed}")
    for _ in range(8):
        put(folder / name, rng.choice(keys), rng.choice(VALUES))
        told(lambda: answer(folder))
        (folder / name).write_text(json.dumps(content))


# --- damaged files -------------------------------------------------------------------------------

DAMAGED = {
    "empty": b"",
    "half": b'{"a": ',
    "list": b"[]",
    "null": b"null",
    "object": b"{}",
    "deep list": b"[" * 100_000,
    "deep object": b'{"a": ' * 100_000,
    "not UTF-8": b'{"a": "\xff\xfe"}',
    "number of many digits": b'{"vocab_size": ' + b"9" * 5000 + b"}",
    "binary": bytes(range(256)) * 4,
}
OURS = [
    "config.json",
    "generation_config.json",
    "preprocessor_config.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "evalkit.yaml",
]
THEIRS = ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"]  # read by transformers
HARMLESS = {
    ("generation_config.json", "object"),
    ("preprocessor_config.json", "object"),
    ("evalkit.yaml", "object"),  # it says nothing
}


@pytest.mark.parametrize("name", [*OURS, *THEIRS])
def test_damaged_files_are_told_in_a_sentence(folder: Path, name: str) -> None:
    before = (folder / name).read_bytes() if (folder / name).is_file() else None
    for what, content in DAMAGED.items():
        (folder / name).write_bytes(content)
        said = told(lambda: answer(folder))
        if name in OURS and (name, what) not in HARMLESS:
            assert name in said, what
        if name == "tokenizer.json":
            assert said.startswith(f"{folder}: the tokenizer cannot be used: "), what
    if before is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(before)
    answer(folder)


@pytest.mark.parametrize(
    "content",
    [
        "protocol: [paper]",
        "protocol: 2001-99-99",
        "protocol: 0b_",
        "protocol: &a paper",
        "protocol: paper\nprotocol: hf",
        "protocol: !!python/object:os.system x",
        "- paper",
        "? [a]\n: b",
        "[" * 5000,
        "a: {b: {c: " * 500,
    ],
)
def test_evalkit_yaml(folder: Path, content: str) -> None:
    (folder / "evalkit.yaml").write_text(content)
    with pytest.raises(ModelError, match=r"evalkit.yaml: (protocol: is|must hold lines like)"):
        inspect(folder)


# --- the index and the headers -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({}, "names no weight files"),
        ({"weight_map": []}, "weight_map: .* must be an object"),
        ({"weight_map": ["model.safetensors"]}, "weight_map: .* must be an object"),
        ({"weight_map": "model.safetensors"}, "weight_map: .* must be an object"),
        ({"weight_map": {"a": 5}}, "weight_map: a: is '5'; it must be the name of a .safetensors file"),
        ({"weight_map": {"a": ["x.safetensors"]}}, "weight_map: a: is"),
        ({"weight_map": {"a": None}}, "weight_map: a: is"),
        ({"weight_map": {"a": "/etc/passwd"}}, "weight_map: a: is"),
        ({"weight_map": {"a": "../other/model.safetensors"}}, "weight_map: a: is"),
        ({"weight_map": {"a": "x/../../model.safetensors"}}, "weight_map: a: is"),
        ({"weight_map": {"a": "pytorch_model.bin"}}, "weight_map: a: is"),
        ({"weight_map": {"a": "model-9.safetensors"}}, "1 of 1 weight files .* missing: model-9"),
        ({"weight_map": {"no such tensor": "model.safetensors"}}, "which does not hold it"),
    ],
)
def test_index_files(folder: Path, content: Any, sentence: str) -> None:
    tiny.shards(folder)
    (folder / "model.safetensors").write_bytes(b"")
    if "no such tensor" in str(content):
        shutil.copy(tiny.checkpoint(1) / "model.safetensors", folder)
    elif "missing" in sentence:
        (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps(content))
    with pytest.raises(ModelError, match=sentence) as caught:
        inspect(folder)
    assert str(folder / "model.safetensors.index.json") in str(caught.value)


ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    ("header", "sentence"),
    [
        ([], "its header is no JSON object"),
        ("x", "its header is no JSON object"),
        ({"a": []}, "the entry of 'a' in its header is not one of a tensor"),
        ({"a": None}, "the entry of 'a'"),
        ({"a": {}}, "the entry of 'a'"),
        ({"a": {**ENTRY, "dtype": 5}}, "the entry of 'a'"),
        ({"a": {**ENTRY, "dtype": ["F32"]}}, "the entry of 'a'"),
        ({"a": {**ENTRY, "shape": "2"}}, "the entry of 'a'"),
        ({"a": {**ENTRY, "shape": [-2]}}, "the entry of 'a'"),
        ({"a": {**ENTRY, "shape": [2.0]}}, "the entry of 'a'"),
        ({"a": {**ENTRY, "shape": [True, 2]}}, "the entry of 'a'"),
        ({"a": {**ENTRY, "shape": None}}, "the entry of 'a'"),
        ({"a": {**ENTRY, "data_offsets": [0]}}, "the entry of 'a'"),
        ({"a": {**ENTRY, "data_offsets": [0, "8"]}}, "the entry of 'a'"),
        ({"a": {**ENTRY, "data_offsets": [8, 0]}}, "the bytes of 'a' are not where"),
        ({"a": {**ENTRY, "data_offsets": [0, 4]}}, "the bytes of 'a' are not where"),
        ({"a": {**ENTRY, "shape": [10**30]}}, "the bytes of 'a' are not where"),
        ({"a": ENTRY, "b": ENTRY}, "the bytes of 'b' are not where"),
        ({"a": ENTRY, "b": {**ENTRY, "data_offsets": [12, 20]}}, "the bytes of 'b' are not where"),
        ({"a": {**ENTRY, "data_offsets": [1, 9]}}, "the bytes of 'a' are not where"),
        ({"__metadata__": {"format": "pt"}}, "has .* bytes, its header says|holds no tensors"),
    ],
)
def test_headers(tmp_path: Path, header: Any, sentence: str) -> None:
    file = tmp_path / "model.safetensors"
    text = json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + b"\0" * 8)
    with pytest.raises(ModelError, match=sentence) as caught:
        safetensors.headers((file,))
    assert str(file) in str(caught.value)


def test_a_tensor_that_stands_twice_in_a_header(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    entry = json.dumps(ENTRY)
    text = f'{{"a": {entry}, "a": {entry}}}'.encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + b"\0" * 8)
    with pytest.raises(ModelError, match="'a' stands in it twice"):
        safetensors.headers((file,))


def test_every_cut_and_flip_of_a_header_is_told(folder: Path) -> None:
    """Or leaves another valid file, whose digest is another."""
    file = folder / "model.safetensors"
    whole = file.read_bytes()
    rng = random.Random(0)
    for _ in range(300):
        data = bytearray(whole)
        place = rng.randrange(3000)
        data[place] ^= 1 << rng.randrange(8)
        file.write_bytes(data)
        told(lambda: inspect(folder))
        file.write_bytes(whole[: rng.randrange(len(whole))])
        assert told(lambda: inspect(folder))


# --- adapters ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"target_modules": 5}, "target_modules: is 5; it must be a list of texts"),
        ({"target_modules": [5]}, "target_modules: "),
        ({"target_modules": "(("}, r"target_modules: '\(\(' is no regular expression"),
        ({"exclude_modules": {"a": 1}}, "exclude_modules: "),
        ({"exclude_modules": "*"}, "exclude_modules: '.*' is no regular expression"),
        ({"layers_to_transform": "all"}, "layers_to_transform: "),
        ({"layers_pattern": ["("]}, "layers_pattern: '.*' is no regular expression"),
        ({"modules_to_save": 3}, "modules_to_save: "),
        ({"rank_pattern": ["q_proj"]}, "rank_pattern: .* must be an object"),
        ({"rank_pattern": {"(": 4}}, "rank_pattern: .* is no regular expression"),
        ({"alpha_pattern": "x"}, "alpha_pattern: .* must be an object"),
        ({"alpha_pattern": {"q_proj": "x"}}, "lora_alpha x"),
        ({"lora_alpha": "8"}, "lora_alpha 8"),
        ({"lora_alpha": True}, "lora_alpha True"),
        ({"lora_alpha": float("nan")}, "lora_alpha is nan; it must be a finite number"),
        ({"lora_alpha": float("inf")}, "lora_alpha is inf"),
        ({"r": "4"}, "r 4"),
        ({"base_model_name_or_path": ["x"]}, "base_model_name_or_path: .* must be text"),
        ({"revision": 5}, "revision: is 5; it must be text"),
        ({"peft_type": ["LORA"]}, "peft_type is"),
        ({"init_lora_weights": ["x"]}, "init_lora_weights is"),
        ({"init_lora_weights": {"x": 1}}, "init_lora_weights is"),
    ],
)
def test_adapters(config: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    folder = lora(tmp_path / "lora", {"language_model.layers.0.self_attn.q_proj": (32, 32)})
    for key, value in config.items():
        put(folder / "adapter_config.json", (key,), value)
    with pytest.raises(ModelError, match=sentence):
        inspect_adapter(folder)


@pytest.mark.parametrize("what", DAMAGED)
def test_damaged_adapters(what: str, tmp_path: Path) -> None:
    folder = lora(tmp_path / "lora", {"language_model.layers.0.self_attn.q_proj": (32, 32)})
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        (folder / name).write_bytes(DAMAGED[what])
        assert name in told(lambda: inspect_adapter(folder))


def test_the_command_line_says_it_with_status_2(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny.edit(folder, text_config="gemma")
    for words in (["doctor"], ["run", "--tasks", "demo"], ["ask", "x.png", "caption en"]):
        assert main([*words, "--model", str(folder)]) == 2
        _, err = capsys.readouterr()
        assert err == f'evalkit: {folder}/config.json: text_config: is "gemma"; it must be an object\n'
