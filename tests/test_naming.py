"""What models are called in tables and comparisons: one name a checkpoint and way of running it."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from stub import colours

import evalkit
from evalkit.errors import UserError
from evalkit.runs.naming import Named, labels
from evalkit.tasks import dataset, loader


def run(model: str = "3b", task: str = "t", **more: Any) -> Named:
    """A run; its digest hangs on everything but its name."""
    about = {
        k: more.pop(k) for k in ("weights", "dtype", "quantisation", "kv_dtype", "compiled") if k in more
    }
    model_part = {
        "weights": model,
        "dtype": "float32",
        "backend": "paligemma-fast",
        "text_version": 2,
        **about,
    }
    protocol = more.pop("protocol", "paper")
    identity = {
        "model": model_part | {"protocol": {"prompt": protocol}},
        "protocol": protocol,
        "preparation": {"resolution": more.pop("resolution", 224)},
    }
    return Named(
        model, task, more.pop("digest", f"{abs(hash((str(identity), task, str(more)))):x}"), identity, **more
    )


def test_one_checkpoint_has_its_plain_name() -> None:
    """Tasks choose their protocol, so two protocols are not two ways."""
    assert labels([run(task="vqav2_val"), run(task="mine", protocol="hf")]) == ["3b", "3b"]
    assert labels([run("a"), run("b", dtype="bfloat16")]) == ["a", "b"]


def test_other_data_of_one_task_does_not_part_the_others() -> None:
    """Each task of one's own has its own data root; two of one name are told apart, and only these."""
    runs = [run(task="a", data="/a"), run(task="b", data="/b"), run(data="/old"), run(data="/new")]
    assert labels(runs) == ["3b", "3b", "3b [data /old]", "3b [data /new]"]
    both = [run(task="u", data="/old"), *runs[2:]]
    assert labels(both) == ["3b [data /old]", "3b [data /old]", "3b [data /new]"]


def test_two_checkpoints_in_two_precisions_are_four_columns() -> None:
    runs = [
        run(model, f"task{k}", dtype=dtype)
        for model, dtype, k in itertools.product(("a", "b"), ("float32", "bfloat16"), range(6))
    ]
    assert list(dict.fromkeys(labels(runs))) == ["a [float32]", "a [bfloat16]", "b [float32]", "b [bfloat16]"]


def test_a_task_that_one_way_alone_ran_stays_in_its_column() -> None:
    runs = [run(dtype="float32"), run(dtype="bfloat16"), run(task="u", dtype="bfloat16")]
    assert labels(runs) == ["3b [float32]", "3b [bfloat16]", "3b [bfloat16]"]


def test_only_what_differs_is_said() -> None:
    rounded = run(quantisation={"scheme": "int8"})
    assert labels([run(), rounded]) == ["3b", "3b [int8]"]
    assert labels([run(dtype="bfloat16"), run(dtype="bfloat16", compiled=True)]) == ["3b", "3b [compiled]"]
    assert labels([run(), run(kv_dtype="bfloat16")]) == ["3b", "3b [kv bfloat16]"]


def test_equal_names_of_other_weights_get_their_folders() -> None:
    one = run("checkpoint-200", weights="x", place="/out/runA/checkpoint-200")
    two = run("checkpoint-200", weights="y", place="/out/runB/checkpoint-200")
    assert labels([one, two]) == ["runA/checkpoint-200", "runB/checkpoint-200"]
    deep = run("checkpoint-200", weights="z", place="/other/runA/checkpoint-200")
    assert labels([one, two, deep]) == [
        "out/runA/checkpoint-200", "out/runB/checkpoint-200", "other/runA/checkpoint-200",
    ]  # fmt: skip
    found = labels([one, run("checkpoint-200", weights="y")])  # of a baseline file, which has no folder
    assert found[0] != found[1]
    assert all(name.startswith("checkpoint-200 [") for name in found)


def test_a_task_run_twice_in_one_way() -> None:
    """By protocol, by settings, by file; by digest only where nothing else differs."""
    twice = [run(), run(protocol="hf"), run(task="u", protocol="hf")]
    assert labels(twice) == ["3b [paper]", "3b [hf]", "3b [hf]"]
    changed = [run(), run(overrides={"decode.max_new_tokens": "64"})]
    assert labels(changed) == ["3b", "3b [decode.max_new_tokens=64]"]
    files = [run(task_file="/a/t.yaml"), run(task_file="/b/t.yaml")]
    assert labels(files) == ["3b [/a/t.yaml]", "3b [/b/t.yaml]"]
    roots = [run(data="/mnt/a"), run(data="/mnt/b")]
    assert labels(roots) == ["3b [data /mnt/a]", "3b [data /mnt/b]"]
    same = [run(digest="abcdef01"), run(digest="123456ff"), run(task="u")]
    assert labels(same) == ["3b [abcdef]", "3b [123456]", "3b"]


def test_resolutions_are_columns_already() -> None:
    small, large = (run(weights=px, place=f"/out/{px}/3b", resolution=px) for px in (224, 448))
    assert labels([small, large]) == ["3b", "3b"]


@pytest.mark.parametrize(
    ("model", "name", "called"),
    [
        ("replay:{file}", "mine", ["mine"]),
        ("replay:{file},name=best-7", None, ["best-7"]),
        (["replay:{file},name=a", "replay:{file},name=b"], None, ["a", "b"]),
        ("replay:{file},name=a,replay:{file},name=b", None, ["a", "b"]),
    ],
)
def test_models_are_called_as_asked(tmp_path: Path, model: Any, name: str | None, called: list[str]) -> None:
    task = colours(tmp_path / "data", images=2)
    samples = dataset.DatasetCache([task.parent]).get(loader.load(str(task))).samples
    file = tmp_path / "said.jsonl"
    file.write_text("".join(json.dumps({"id": s.id, "text": "red"}) + "\n" for s in samples))
    models = [m.format(file=file) for m in ([model] if isinstance(model, str) else model)]
    runs = evalkit.run(models, str(task), data_root=task.parent, output_path=tmp_path / "out", name=name)
    assert [r.record["model"] for r in runs] == called


@pytest.mark.parametrize(
    ("model", "name", "why"),
    [
        (["replay:x", "replay:y"], "a", "--name: calls one model; of several write --model PATH,name=LABEL"),
        ("replay:x", "a/b", "name: .* write letters, digits and any of"),
        ("replay:x,name=", None, "name: .* write letters, digits and any of"),
    ],
)
def test_names_that_are_refused(tmp_path: Path, model: Any, name: str | None, why: str) -> None:
    (tmp_path / "x").write_text("")
    task = colours(tmp_path / "data", images=2)
    models = [m.replace(":x", f":{tmp_path / 'x'}") for m in ([model] if isinstance(model, str) else model)]
    with pytest.raises(UserError, match=why):
        evalkit.run(models, str(task), data_root=task.parent, output_path=tmp_path / "out", name=name)
