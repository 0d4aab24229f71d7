"""Everything that a person can get wrong, as cases: what is broken, and the command that meets it.

`test_errors.py` runs them and keeps `docs/errors.md` in step.
"""

from __future__ import annotations

import json
import pickle
import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from stub import colours

from evalkit.cli.main import main
from evalkit.runs import sealed

Break = Callable[["Place"], list[str]]


@dataclass
class Place:
    """A folder with a sound dataset, its task file, and a checkpoint of the right shape."""

    folder: Path

    @property
    def task(self) -> Path:
        return self.folder / "data" / "colours_test.yaml"

    @property
    def lines(self) -> Path:
        return self.folder / "data" / "colours.jsonl"

    def edit(self, old: str, new: str) -> Place:
        text = self.task.read_text()
        assert old in text
        self.task.write_text(text.replace(old, new, 1))
        return self

    def run(self, *more: str, model: str = "stub") -> list[str]:
        return ["run", "--model", model, "--tasks", "data/colours_test.yaml", "--data-root", "data", *more]

    def score(self, text: str | bytes) -> list[str]:
        (self.folder / "answers.jsonl").write_bytes(text if isinstance(text, bytes) else text.encode())
        return [
            "score",
            "--task",
            "data/colours_test.yaml",
            "--data-root",
            "data",
            "--predictions",
            "answers.jsonl",
        ]

    def checkpoint(self, **changes: Any) -> Path:
        """A folder that looks like a PaliGemma to `inspect`; `changes` replace keys of config.json."""
        where = self.folder / "model"
        where.mkdir()
        config = {
            "model_type": "paligemma",
            "image_token_index": 300,
            "text_config": {"model_type": "gemma", "hidden_size": 8, "vocab_size": 301},
            "vision_config": {"image_size": 28, "patch_size": 14, "hidden_size": 8},
        } | changes
        (where / "config.json").write_text(json.dumps(config))
        (where / "tokenizer.json").write_text("{}")
        return where

    def weights(
        self,
        name: str = "model.safetensors",
        header: bytes | None = None,
        more: Mapping[str, Any] | None = None,
    ) -> None:
        """Tables and patches of a PaliGemma without layers; `more` are other tensors."""
        path = self.folder / "model" / name
        if header is not None:
            path.write_bytes(struct.pack("<Q", len(header)) + header)
            return
        vision = "model.vision_tower.vision_model.embeddings"
        tensors = {
            f"{vision}.position_embedding.weight": (4, 8),
            f"{vision}.patch_embedding.weight": (8, 3, 14, 14),
            "model.language_model.embed_tokens.weight": (301, 8),
        }
        zeros = {key: np.zeros(shape, np.float32) for key, shape in tensors.items()}
        save_file({**zeros, **(more or {})}, path)


def place(folder: Path) -> Place:
    colours(folder / "data")
    return Place(folder)


CASES: list[tuple[str, str, Break]] = []


def case(area: str, what: str) -> Callable[[Break], Break]:
    def keep(make: Break) -> Break:
        CASES.append((area, what, make))
        return make

    return keep


def task_case(what: str, old: str, new: str) -> None:
    CASES.append(("Task files", what, lambda p: p.edit(old, new).run()))


# --- task files ------------------------------------------------------------------------------------

task_case("a key misspelt", "parser:", "parsr:")
task_case("a key twice", "about: colours", "about: a\nabout: b")
task_case("a key missing", "license: none\n", "")
task_case("text where a number belongs", "version: 1", "version: one")
task_case("a metric misspelt", "[exact_match]", "[exact_mach]")
task_case("a metric's parameter misspelt", "[exact_match]", "[exact_match(lowercse=True)]")
task_case("a metric's parameter of the wrong type", "[exact_match]", "[exact_match(lowercase=3)]")
task_case("a metric that is code", "[exact_match]", '["exact_match(lowercase=exit())"]')
task_case("a metric that reads something else than the parser gives", "[exact_match]", "[box_iou]")
task_case("a metric that the format has no targets for", "[exact_match]", "[paired_accuracy]")
task_case("a metric that scores other targets than the data has", "parser: text\nmetrics: [exact_match]",
          "parser: boxes\nmetrics: [coco_ap]")  # fmt: skip
task_case("a mean over groups of rows that do not add up", "parser: text\nmetrics: [exact_match]",
          "parser: boxes\ngroup_mean: true\nmetrics: [coco_ap]")  # fmt: skip
task_case("a group to leave out that is not there", "parser: text",
          "group_mean: {without: [de]}\nparser: text")  # fmt: skip
task_case("confidence in a score that is of no single answer", "[exact_match]",
          "[\"risk_coverage(of='cider')\"]")  # fmt: skip
task_case("no metric", "[exact_match]", "[]")
task_case("a parser that is not there", "parser: text", "parser: txt")
task_case("a format that is not there", "format: jsonl", "format: json1")
task_case("a source without a path", "{path: colours.jsonl, images: pictures}", "{images: pictures}")
task_case("sources that are no mappings", "[{path: colours.jsonl, images: pictures}]", "[colours.jsonl]")
task_case("a prompt field that the dataset lacks", "{question}", "{qustion}")
task_case("a lone brace in the prompt", "{question}", "{question")
task_case("a prompt without quotes", "'answer en {question}'", "{question}")
task_case("a resize that is not there", "parser: text", "image: {resize: lanczos}\nparser: text")
task_case("no new tokens allowed", "parser: text", "decode: {max_new_tokens: 0}\nparser: text")
task_case("a protocol that is not there", "parser: text", "protocol: papr\nparser: text")
task_case("a YAML tag", "about: colours", "about: !!python/name:os.system x")
task_case("an anchor", "about: colours", "about: &a colours")
task_case("broken YAML", "metrics: [exact_match]", "metrics: [exact_match")


def _sweep(*words: str) -> list[str]:
    return ["sweep", "--model", "stub", "--tasks", "data/colours_test.yaml", "--data-root", "data", *words]


@case("Options", "a sweep of nothing")
def _(p: Place) -> list[str]:
    return _sweep()


@case("Options", "a sweep over an axis that is not there")
def _(p: Place) -> list[str]:
    return _sweep("--over", "precisoin")


@case("Options", "a sweep over the resolution of one checkpoint")
def _(p: Place) -> list[str]:
    return _sweep("--over", "resolution")


@case("Options", "a sweep over a key that a task has not")
def _(p: Place) -> list[str]:
    return _sweep("--over", "decode.beems=1,3")


@case("Options", "a sweep of too many settings")
def _(p: Place) -> list[str]:
    return _sweep("--over", f"decode.beams={','.join(map(str, range(1, 10)))}",
                  "--over", f"decode.max_new_tokens={','.join(map(str, range(1, 10)))}")  # fmt: skip


@case("Task files", "a file that is not there")
def _(p: Place) -> list[str]:
    return ["run", "--model", "stub", "--tasks", "data/other.yaml"]


@case("Task files", "a task that is not there")
def _(p: Place) -> list[str]:
    return ["run", "--model", "stub", "--tasks", "shapes_refer_seg_tset"]


@case("Task files", "a pattern that matches nothing")
def _(p: Place) -> list[str]:
    return ["run", "--model", "stub", "--tasks", "quantum*"]


@case("Task files", "an empty file")
def _(p: Place) -> list[str]:
    p.task.write_text("")
    return p.run()


@case("Task files", "a file that is no text")
def _(p: Place) -> list[str]:
    p.task.write_bytes(b"\xff\xfe\x00")
    return p.run()


@case("Task files", "absurd depth")
def _(p: Place) -> list[str]:
    p.task.write_text("version: " + "[" * 3000)
    return p.run()


# --- options ---------------------------------------------------------------------------------------


@case("Options", "a number that is none")
def _(p: Place) -> list[str]:
    return p.run("--limit", "x")


@case("Options", "a number below what there can be")
def _(p: Place) -> list[str]:
    return ["check", "results", "--baseline", "b.json", "--limit", "-3"]


@case("Options", "a word that is none of the choices")
def _(p: Place) -> list[str]:
    return p.run("--dtype", "bfloat")


@case("Options", "an option that the model's backend does not use")
def _(p: Place) -> list[str]:
    (p.folder / "answers.jsonl").write_text('{"id": "q0-0", "text": "red"}\n')
    return p.run("--dtype", "bfloat16", model="replay:answers.jsonl")


@case("Options", "a default in evalkit.toml that cannot be")
def _(p: Place) -> list[str]:
    (p.folder / "evalkit.toml").write_text("[run]\nlimit = 0\n")
    return p.run()


@case("Options", "a task with a metric of one's own, without --allow-code")
def _(p: Place) -> list[str]:
    return p.edit("[exact_match]", "['module:mine.py:Mine']").run()


@case("Options", "a metric of one's own that is not there")
def _(p: Place) -> list[str]:
    return p.edit("[exact_match]", "['module:mine.py:Mine']").run("--allow-code")


@case("Options", "a table form that is not there")
def _(p: Place) -> list[str]:
    (p.folder / "results").mkdir()
    return ["table", "--format", "markdown"]


@case("Options", "a table form that has no such shape")
def _(p: Place) -> list[str]:
    (p.folder / "results").mkdir()
    return ["table", "--format", "model-index", "--shape", "wide"]


@case("Options", "--set without a value")
def _(p: Place) -> list[str]:
    return p.run("--set", "parser")


@case("Options", "--set of a key that is not there")
def _(p: Place) -> list[str]:
    return p.run("--set", "decode.max_tokens=5")


@case("Options", "--ids of a file that is not there")
def _(p: Place) -> list[str]:
    return p.run("--ids", "ids.txt")


@case("Options", "--ids of an empty file")
def _(p: Place) -> list[str]:
    (p.folder / "ids.txt").write_text("\n")
    return p.run("--ids", "ids.txt")


@case("Options", "--ids of a sample that is not there")
def _(p: Place) -> list[str]:
    (p.folder / "ids.txt").write_text("q0-0\nq99-0\n")
    return p.run("--ids", "ids.txt")


@case("Options", "--model_args misspelt")
def _(p: Place) -> list[str]:
    p.checkpoint()
    p.weights()
    return p.run("--model_args", "dtpe=bfloat16", model="model")


@case("Options", "a switch of the engine that is neither on nor off")
def _(p: Place) -> list[str]:
    p.checkpoint()
    p.weights()
    return p.run("--model_args", "cuda_graphs=yes", model="model")


@case("Options", "an engine that does not have the switch")
def _(p: Place) -> list[str]:
    p.checkpoint()
    p.weights()
    return p.run("--engine", "plain", "--compile", model="model")


# --- datasets --------------------------------------------------------------------------------------


def data_case(what: str, change: Callable[[list[dict[str, Any]]], Any]) -> None:
    def make(p: Place) -> list[str]:
        records = [json.loads(line) for line in p.lines.read_text().splitlines()]
        change(records)
        p.lines.write_text("".join(json.dumps(r) + "\n" for r in records))
        return p.run()

    CASES.append(("Datasets", what, make))


data_case("an id twice", lambda r: r[1].update(id="q0-0"))
data_case("an image's name that is a number", lambda r: r[2].update(image=7))
data_case("answers that are numbers", lambda r: r[0].update(answers=[1, 2]))
data_case("a record without an image", lambda r: r[0].pop("image"))
data_case("no records", lambda r: r.clear())
data_case("a target's key misspelt", lambda r: [each.update(label=each.pop("answers")) for each in r])
data_case("no target", lambda r: [each.pop("answers") for each in r])
data_case(
    "a target of another kind in one line",
    lambda r: r[3].update(answers=None, size=[8, 8], bbox=[0, 0, 4, 4]),
)
data_case(
    "a conversation", lambda r: r[0].update(answers=None, conversations=[{"from": "human", "value": "?"}])
)
data_case("an address for an image", lambda r: r[0].update(image="https://x.example/0.png"))
data_case(
    "two paths of Windows for one image",
    lambda r: [each.update(image=f"{drive}:\\0.png") for each, drive in zip(r, "CD", strict=False)],
)


@case("Datasets", "a JSON list in place of JSON lines")
def _(p: Place) -> list[str]:
    p.lines.write_text(json.dumps([json.loads(line) for line in p.lines.read_text().splitlines()], indent=1))
    return p.run()


@case("Datasets", "a polygon far outside its image, to be scored as a mask")
def _(p: Place) -> list[str]:
    line = {"image": "0.png", "question": "?", "size": [8, 8], "segmentation": [[0, 0, 4e7, 0, 4, 4]]}
    p.lines.write_text(json.dumps(line))
    return p.edit("parser: text\nmetrics: [exact_match]", "parser: masks\nmetrics: [mask_iou]").run()


@case("Datasets", "no data root")
def _(p: Place) -> list[str]:
    return ["run", "--model", "stub", "--tasks", "docvqa_val"]


@case("Datasets", "a data root that is not there")
def _(p: Place) -> list[str]:
    return [*p.run()[:-1], "elsewhere"]


@case("Datasets", "an evalkit.toml that is broken")
def _(p: Place) -> list[str]:
    (p.folder / "evalkit.toml").write_text("data = /datasets\n")
    return ["run", "--model", "stub", "--tasks", "docvqa_val"]


@case("Datasets", "an evalkit.toml with another key")
def _(p: Place) -> list[str]:
    (p.folder / "evalkit.toml").write_text("dta = ['/datasets']\n")
    return ["run", "--model", "stub", "--tasks", "docvqa_val"]


@case("Datasets", "a file that is not there")
def _(p: Place) -> list[str]:
    p.lines.unlink()
    return p.run()


@case("Datasets", "broken JSON")
def _(p: Place) -> list[str]:
    p.lines.write_text(p.lines.read_text() + '{"id": \n')
    return p.run()


@case("Datasets", "JSON of absurd depth")
def _(p: Place) -> list[str]:
    p.lines.write_text('{"id": ' + "[" * 100_000 + "\n")
    return p.run()


@case("Datasets", "a file that is no text")
def _(p: Place) -> list[str]:
    p.lines.write_bytes(b"\x80\x81\n")
    return p.run()


def _official(p: Place, name: str, files: dict[str, Any], more: str = "") -> list[str]:
    """A task of an official format over files written as they are given."""
    entry = {}
    for key, content in files.items():
        path = p.folder / "data" / f"{key}.file"
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        entry[key] = path.name
    entry["images"] = "pictures"
    p.edit("format: jsonl", f"format: {name}").edit(
        "{path: colours.jsonl, images: pictures}", json.dumps(entry)
    )
    if name == "refcoco":
        p.edit("parser: text\nmetrics: [exact_match]", "parser: boxes\nmetrics: [box_iou]")
    return p.edit("'answer en {question}'", "'caption en'").run()


@case("Datasets", "a COCO file without images")
def _(p: Place) -> list[str]:
    return _official(p, "coco_captions", {"path": {"annotations": []}})


@case("Datasets", "a caption of an image that is not there")
def _(p: Place) -> list[str]:
    image = {"id": 1, "file_name": "0.png", "height": 8, "width": 8}
    return _official(
        p,
        "coco_captions",
        {"path": {"images": [image], "annotations": [{"image_id": 2, "id": 1, "caption": "x"}]}},
    )


@case("Datasets", "questions without annotations")
def _(p: Place) -> list[str]:
    questions = {"questions": [{"question_id": 1, "image_id": 1, "question": "x"}], "data_subtype": "test"}
    return _official(p, "vqa_json", {"questions": questions, "annotations": {"annotations": []}})


@case("Datasets", "another split than the file holds")
def _(p: Place) -> list[str]:
    questions = {"questions": [{"question_id": 1, "image_id": 1, "question": "x"}], "data_subtype": "val2014"}
    return _official(p, "vqa_json", {"questions": questions, "annotations": {"annotations": []}})


@case("Datasets", "a list where a mapping belongs")
def _(p: Place) -> list[str]:
    return _official(p, "docvqa", {"path": [1, 2]})


class Evil:
    def __reduce__(self) -> Any:
        return print, ("run",)


@case("Datasets", "a pickle that would run code")
def _(p: Place) -> list[str]:
    instances = {"images": [], "annotations": [], "categories": []}
    return _official(p, "refcoco", {"refs": pickle.dumps([Evil()]), "instances": instances})


@case("Datasets", "a pickle that is torn")
def _(p: Place) -> list[str]:
    instances = {"images": [], "annotations": [], "categories": []}
    return _official(p, "refcoco", {"refs": pickle.dumps([{"a": 1}])[:-3], "instances": instances})


# --- images ----------------------------------------------------------------------------------------


@case("Images", "a file that is not there")
def _(p: Place) -> list[str]:
    (p.folder / "data" / "pictures" / "3.png").unlink()
    return p.run()


def image_case(what: str, content: Callable[[bytes], bytes]) -> None:
    def make(p: Place) -> list[str]:
        path = p.folder / "data" / "pictures" / "3.png"
        path.write_bytes(content(path.read_bytes()))
        return p.run(model="decodes")

    CASES.append(("Images", what, make))


image_case("a file that is cut short", lambda b: b[:-30])
image_case("an empty file", lambda b: b"")
image_case("a page of HTML", lambda b: b"<html>not found</html>")
image_case(
    "a bomb: 60,000 by 60,000 pixels in a header",
    lambda b: (
        b[:16]
        + (size := struct.pack(">II", 60_000, 60_000))
        + b[24:29]
        + struct.pack(">I", zlib.crc32(b[12:16] + size + b[24:29]))
        + b[33:]
    ),
)


@case("Images", "ask about a file that is not there")
def _(p: Place) -> list[str]:
    return ["ask", "photo.jpg", "caption en", "--model", "stub"]


# --- checkpoints -----------------------------------------------------------------------------------


@case("Checkpoints", "a folder that is not there")
def _(p: Place) -> list[str]:
    return p.run(model="./nowhere")


@case("Checkpoints", "a file instead of a folder")
def _(p: Place) -> list[str]:
    p.checkpoint()
    p.weights()
    return p.run(model="model/model.safetensors")


@case("Checkpoints", "another kind of model")
def _(p: Place) -> list[str]:
    p.checkpoint(model_type="llama")
    p.weights()
    return p.run(model="model")


@case("Checkpoints", "no config.json")
def _(p: Place) -> list[str]:
    (p.checkpoint() / "config.json").unlink()
    return p.run(model="model")


@case("Checkpoints", "a config.json that is broken")
def _(p: Place) -> list[str]:
    (p.checkpoint() / "config.json").write_text("{")
    return p.run(model="model")


@case("Checkpoints", "no weights")
def _(p: Place) -> list[str]:
    p.checkpoint()
    return p.run(model="model")


@case("Checkpoints", "pickled weights only")
def _(p: Place) -> list[str]:
    (p.checkpoint() / "pytorch_model.bin").write_bytes(b"x")
    return p.run(model="model")


@case("Checkpoints", "weights that are no safetensors")
def _(p: Place) -> list[str]:
    p.checkpoint()
    p.weights(header=b"<html>")
    return p.run(model="model")


@case("Checkpoints", "a shard missing")
def _(p: Place) -> list[str]:
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (p.checkpoint() / "model.safetensors.index.json").write_text(json.dumps(index))
    p.weights("model-00001-of-00002.safetensors")
    return p.run(model="model")


_LAYER = "model.language_model.layers.0.self_attn.q_proj."
_PATCHES = "model.vision_tower.vision_model.embeddings.patch_embedding.weight"
for _what, _more in (
    (
        "full weights with an adapter that is not merged",
        {f"{_LAYER}lora_{x}.weight": np.zeros((2, 2), np.float32) for x in "AB"},
    ),
    ("weights as torch.compile names them", {f"_orig_mod.{_LAYER}weight": np.zeros((8, 8), np.float32)}),
    ("weights as peft wraps them", {f"{_LAYER}base_layer.weight": np.zeros((8, 8), np.float32)}),
    ("weights of whole numbers", {f"{_LAYER}weight": np.zeros((8, 8), np.int8)}),
    ("scales of quantised weights", {f"{_LAYER}SCB": np.zeros(8, np.float32)}),
    ("axes as MLX orders them", {_PATCHES: np.zeros((8, 14, 14, 3), np.float32)}),
    (
        "one weight under two names",
        {"language_model.model.embed_tokens.weight": np.zeros((301, 8), np.float32)},
    ),
):

    def _odd(p: Place, more: Mapping[str, Any] = _more) -> list[str]:
        p.checkpoint()
        p.weights(more=more)
        return p.run(model="model")

    CASES.append(("Checkpoints", _what, _odd))


@case("Checkpoints", "text where config.json has an object")
def _(p: Place) -> list[str]:
    p.checkpoint(text_config="gemma")
    p.weights()
    return p.run(model="model")


@case("Checkpoints", "an index that names a file elsewhere")
def _(p: Place) -> list[str]:
    index = {"weight_map": {"a": "../other/model.safetensors"}}
    (p.checkpoint() / "model.safetensors.index.json").write_text(json.dumps(index))
    return p.run(model="model")


@case("Checkpoints", "the output folder of a training")
def _(p: Place) -> list[str]:
    p.checkpoint()
    (p.folder / "output").mkdir()
    (p.folder / "model").rename(p.folder / "output" / "checkpoint-500")
    return p.run(model="output")


@case("Checkpoints", "one checkpoint, to watch")
def _(p: Place) -> list[str]:
    p.checkpoint()
    p.weights()
    return ["watch", "model", "--tasks", "data/colours_test.yaml"]


@case("Checkpoints", "no tokenizer")
def _(p: Place) -> list[str]:
    (p.checkpoint() / "tokenizer.json").unlink()
    p.weights()
    return p.run(model="model")


@case("Checkpoints", "another resolution than asked for")
def _(p: Place) -> list[str]:
    p.checkpoint()
    p.weights()
    return p.run("--resolution", "448", model="model")


def _adapter(p: Place, **config: Any) -> list[str]:
    p.checkpoint()
    p.weights()
    lora = p.folder / "lora"
    lora.mkdir()
    key = "base_model.model.model.language_model.layers.0.self_attn.q_proj.lora_{}.weight"
    save_file(
        {key.format("A"): np.zeros((2, 64), np.float32), key.format("B"): np.zeros((64, 2), np.float32)},
        lora / "adapter_model.safetensors",
    )
    content = {"peft_type": "LORA", "r": 2, "lora_alpha": 2} | config
    (lora / "adapter_config.json").write_text(json.dumps(content))
    return p.run("--adapter", "lora", model="model")


def _module(p: Place, body: str) -> list[str]:
    (p.folder / "mine.py").write_text(f"class Mine:\n    {body}\n")
    return p.run(model="module:mine.py:Mine")


for _what, _config in (
    ("an adapter of another base, by its layers", {}),
    ("an adapter of another base, by its name", {"base_model_name_or_path": "google/paligemma2-3b-pt-224"}),
    ("an adapter of a kind that is not merged", {"use_dora": True}),
):
    CASES.append(("Checkpoints", _what, lambda p, c=_config: _adapter(p, **c)))  # type: ignore[misc]


for _what, _body in (
    ("a class that answers nothing", "def answer(self, image, prompt, max_new_tokens): return None"),
    ("a class that raises", "def answer(self, image, prompt, max_new_tokens): raise KeyError('cat')"),
    ("a class without the method", "pass"),
    ("a class that needs an option", "def __init__(self, weights): pass\n    def answer(self, image): pass"),
):
    CASES.append(("Checkpoints", _what, lambda p, b=_body: _module(p, b)))  # type: ignore[misc]


@case("Checkpoints", "a .npz without a tokenizer")
def _(p: Place) -> list[str]:
    np.savez(p.folder / "x.npz", a=np.zeros(1))
    return p.run(model="x.npz")


@case("Checkpoints", "a .npz of something else")
def _(p: Place) -> list[str]:
    p.checkpoint()
    np.savez(p.folder / "x.npz", a=np.zeros(1))
    return p.run("--model-args", "tokenizer=model", model="x.npz")


@case("Checkpoints", "a quantisation that is not there")
def _(p: Place) -> list[str]:
    p.checkpoint()
    p.weights()
    return p.run("--quantize", "torchao-int9", model="model")


def codes_case(what: str, **config: Any) -> None:
    """Weights without a code, of which config.json says that they are quantised."""

    def make(p: Place) -> list[str]:
        p.checkpoint(quantization_config=config)
        p.weights()
        return p.run(model="model")

    CASES.append(("Checkpoints", what, make))


codes_case("another library's codes", quant_method="gptq", bits=4)
codes_case("codes of no kind", quant_method="bitsandbytes")
codes_case("codes of two kinds", quant_method="bitsandbytes", load_in_4bit=True, load_in_8bit=True)
codes_case("codes that are not there", quant_method="bitsandbytes", load_in_8bit=True)
codes_case(
    "4-bit codes of a kind that is none",
    quant_method="bitsandbytes",
    load_in_4bit=True,
    bnb_4bit_quant_type="int4",
)


@case("Checkpoints", "a replay that lacks answers")
def _(p: Place) -> list[str]:
    (p.folder / "answers.jsonl").write_text('{"id": "q0-0", "text": "red"}\n')
    return p.run(model="replay:answers.jsonl")


@case("Checkpoints", "a demo checkpoint that is not there")
def _(p: Place) -> list[str]:
    return p.run(model="demo:latest")


def known_case(what: str, *words: str, data: bool = True, model: str = "demo:later") -> None:
    """What a checkpoint was trained with, asked of known answers."""

    def make(p: Place) -> list[str]:
        given = ["--tasks", "data/colours_test.yaml", "--data-root", "data"] if data else []
        return ["doctor", "--protocol-of", model, *given, *words]

    CASES.append(("Checkpoints", what, make))


known_case("conventions looked for without known answers", data=False)
known_case("too few known answers", "--samples", "3")
known_case("conventions of the demo's checkpoint, to be written", "--write")
known_case("conventions of a checkpoint that is not there", model="modle")
known_case("known answers that are not there", "--data", "no/such", data=False)


@case("Checkpoints", "a demo checkpoint that is not there, for doctor")
def _(p: Place) -> list[str]:
    return ["doctor", "--model", "demo:latest"]


# --- predictions made elsewhere ----------------------------------------------------------------------


def answer_case(what: str, text: str | bytes) -> None:
    CASES.append(("Predictions", what, lambda p: p.score(text)))


answer_case("an id that the task lacks", '{"id": "q77-0", "text": "red"}')
answer_case("an id twice", '{"id": "q0-0", "text": "red"}\n{"id": "q0-0", "text": "blue"}')
answer_case("no text", '{"id": "q0-0"}')
answer_case("text that is null", '{"id": "q0-0", "text": null}')
answer_case("no id", '{"text": "red"}')
answer_case("no JSON", "q0-0: red")
answer_case("a list", "[1, 2]")
answer_case("no UTF-8", b"\xff\xfe")
answer_case("nothing", "")


@case("Predictions", "a file that is not there")
def _(p: Place) -> list[str]:
    return [*p.score("")[:-1], "none.jsonl"]


@case("Predictions", "no task named")
def _(p: Place) -> list[str]:
    return ["score", "--predictions", "answers.jsonl"]


# --- results ---------------------------------------------------------------------------------------


@case("Results", "a folder that is not there")
def _(p: Place) -> list[str]:
    return ["table", "nowhere"]


@case("Results", "nothing named")
def _(p: Place) -> list[str]:
    return ["score"]


@case("Results", "a file where the folder belongs")
def _(p: Place) -> list[str]:
    (p.folder / "results").write_text("")
    return p.run()


@case("Results", "a folder that may not be written")
def _(p: Place) -> list[str]:
    return p.run("--output-path", "/proc/results")


@case("Results", "a report of a folder without runs")
def _(p: Place) -> list[str]:
    (p.folder / "nothing").mkdir()
    return ["report", "nothing"]


def plot_case(what: str, *words: str) -> None:
    """What `plot` is asked for of a run of answers."""

    def make(p: Place) -> list[str]:
        assert main(p.run()) == 0
        return ["plot", "results", *words]

    CASES.append(("Results", what, make))


plot_case("a figure in a form that is none", "--output", "figure.bmp")
plot_case("a figure that there is not", "--what", "confuson", "--output", "figure.svg")
plot_case("a figure that these runs have not", "--what", "precision-recall", "--output", "figure.svg")
plot_case("figures of a task that is none", "--tasks", "colours_tset", "--output", "figure.svg")


@case("Results", "a figure of a folder without runs")
def _(p: Place) -> list[str]:
    (p.folder / "empty").mkdir()
    return ["plot", "empty", "--output", "figure.svg"]


@case("Results", "an address of a report that is none")
def _(p: Place) -> list[str]:
    return ["table", "results", "--format", "html", "--report", "javascript:alert(1)"]


@case("Results", "links into a report from a table that has none")
def _(p: Place) -> list[str]:
    (p.folder / "results").mkdir()
    return ["table", "results", "--format", "md", "--report", "REPORT"]


def run_json_case(what: str, content: str) -> None:
    def make(p: Place) -> list[str]:
        (p.folder / "results" / "r").mkdir(parents=True)
        (p.folder / "results" / "r" / "run.json").write_text(content)
        return ["table", "results"]

    CASES.append(("Results", what, make))


run_json_case("a run.json that is torn", '{"schema": 1, "na')
run_json_case("a run.json that was edited", '{"schema": 2, "seal": "0123456789abcdef", "task": "x"}')
run_json_case("a run.json of a newer version", '{"schema": 99}')
run_json_case("a run.json of a version too old", '{"schema": 0}')
run_json_case("a run.json of something else", '["a"]')


def changed_case(what: str, words: list[str], change: Callable[[Place, Path], object]) -> None:
    """A finished run, of which something is changed before the command."""

    def make(p: Place) -> list[str]:
        assert main(p.run()) == 0
        (folder,) = (p.folder / "results").iterdir()
        change(p, folder)
        return [str(folder) if word == "RUN" else word for word in words] or p.run()

    CASES.append(("Results", what, make))


def _replace(file: Path, old: str, new: str) -> None:
    file.write_text(file.read_text().replace(old, new, 1))


changed_case("a score that was edited", ["table", "results"],
             lambda p, f: _replace(f / "scores.json", '"value": 0.', '"value": 0.9'))  # fmt: skip
changed_case("a row that was edited", ["compare", "RUN", "RUN"],
             lambda p, f: _replace(f / "rows.jsonl", '"red"', '"rot"'))  # fmt: skip
changed_case("rows that were emptied", ["baseline", "save", "RUN", "base.json"],
             lambda p, f: (f / "rows.jsonl").write_text(""))  # fmt: skip
changed_case("a run in another's place", [],
             lambda p, f: (f / "run.json").write_text(resealed(f / "run.json")))  # fmt: skip
changed_case("questions that were rewritten since", ["score", "RUN"],
             lambda p, f: _replace(p.lines, "question 0?", "something else?"))  # fmt: skip
changed_case("a run whose run.json is gone", ["score", "RUN"], lambda p, f: (f / "run.json").unlink())


def resealed(file: Path) -> str:
    """The run.json of another run."""
    content = json.loads(file.read_text())
    sealed.write(file, {**content, "digest": "0123456789abcdef" * 4})
    return file.read_text()


@case("While it runs", "the disk fills up")
def _(p: Place) -> list[str]:
    return p.run(model="fills-the-disk")


@case("While it runs", "the images are taken away")
def _(p: Place) -> list[str]:
    return p.run(model="removes-images")


@case("While it runs", "the results are taken away")
def _(p: Place) -> list[str]:
    return p.run(model="removes-results")


@case("While it runs", "every image is bad, and bad ones are skipped")
def _(p: Place) -> list[str]:
    for path in (p.folder / "data" / "pictures").iterdir():
        path.unlink()
    return p.run("--on-bad-image", "skip")
