"""Damages a checkpoint in known ways and records what `evalkit check` decides, on disjoint sets of scenes.

`python -m benchmarks.regressions [--model demo:later] [--sets 20] [--scenes 300] [--output FILE]` needs
about 45 CPU minutes; predictions are kept in --work, so a second call continues where the first stopped.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from evalkit import demo
from evalkit.comparison.compare import ModelRuns, compare
from evalkit.comparison.gate import FAIL, INCONCLUSIVE, PASS, check
from evalkit.comparison.policy import Policy
from evalkit.demo import data
from evalkit.evaluation import evaluate
from evalkit.files import atomic_write
from evalkit.options.verbs import RunOptions
from evalkit.runs import scored_run
from evalkit.runs.scored_run import ScoredRun
from evalkit.stats import paired
from evalkit.tasks import loader

Tensors = dict[str, Any]
Damage = Callable[[Tensors, Path], None]


# --- damage ----------------------------------------------------------------------------------------------


def channels_swapped(tensors: Tensors, folder: Path) -> None:
    """Red and blue change places in the patch convolution."""
    (key,) = (k for k in tensors if k.endswith("patch_embedding.weight"))
    tensors[key] = tensors[key].flip(1).contiguous()


def loc_shifted(tensors: Tensors, folder: Path) -> None:
    """Every <loc> token takes the place of the next: all coordinates move by one of 1,024 steps."""
    words = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    (first,) = (t["id"] for t in words["added_tokens"] if t["content"] == "<loc0000>")
    for key in tensors:
        if key.endswith(("embed_tokens.weight", "lm_head.weight")):
            rows = tensors[key][first : first + 1024]
            tensors[key][first : first + 1024] = rows.roll(1, dims=0)


def head_zeroed(tensors: Tensors, folder: Path) -> None:
    """The first attention head of the second decoder layer adds nothing any more."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    width = config["text_config"]["head_dim"]
    (key,) = (k for k in tensors if k.endswith("layers.1.self_attn.o_proj.weight") and "language" in k)
    tensors[key][:, :width] = 0


def rounded(tensors: Tensors, folder: Path) -> None:
    """Every matrix to 255 levels a row."""
    for key, value in tensors.items():
        if value.ndim >= 2:
            flat = value.float().reshape(value.shape[0], -1)
            step = flat.abs().amax(1, keepdim=True).clamp(min=1e-12) / 127
            tensors[key] = ((flat / step).round() * step).reshape(value.shape).to(value.dtype)


DAMAGES: dict[str, Damage] = {
    "image channels swapped": channels_swapped,
    "loc tokens shifted by one": loc_shifted,
    "an attention head zeroed": head_zeroed,
    "8-bit rounding": rounded,
}


def damaged(source: Path, target: Path, damage: Damage) -> Path:
    """A copy of a checkpoint folder with damaged weights; made once, and complete if it exists."""
    from safetensors.torch import load_file, save_file

    if not target.is_dir():
        made = target.with_name(f".{target.name}")
        shutil.copytree(source, made, dirs_exist_ok=True)
        tensors = load_file(source / "model.safetensors")
        damage(tensors, source)
        save_file(tensors, made / "model.safetensors", metadata={"format": "pt"})
        made.rename(target)
    return target


# --- runs ------------------------------------------------------------------------------------------------


def scenes(work: Path, number: int, count: int) -> Path:
    """A data root with `count` scenes, different for each `number`."""
    root = work / f"scenes-{number}-{count}"
    if not (root / "shapes" / "vae-oid.npz").is_file():
        data.write(root / "shapes", count, seed=number)
        shutil.copyfile(demo.mask_decoder(), root / "shapes" / "vae-oid.npz")
    return root


def answered(model: str, names: list[str], root: Path, output: Path) -> list[ScoredRun]:
    """The model's scored runs of the tasks on one set of scenes."""
    options = RunOptions(model, names, data_root=root, output_path=output)
    return scored_run.of_runs(evaluate.run(options))  # reuses earlier predictions and scores


@dataclass
class Tally:
    """The results for one damage over the sets of scenes."""

    gate: Counter[str]  # pass, fail, inconclusive
    code: Counter[str]  # the same if the weights were equal, as when code is damaged
    worse: Counter[str]  # first metrics lost (after Holm), and other metrics called worse
    change: dict[str, list[float]]  # "task metric" -> differences
    moved: dict[str, list[list[float]]]  # task -> how far its boxes moved, down and right, in steps


def measure(
    model: str, sets: int, count: int, work: Path, names: list[str], margin: float
) -> dict[str, Tally]:
    """Runs everything, reusing earlier runs; results by the name of the damage."""
    source = demo.checkpoint(model.partition(":")[2]) if model.startswith("demo:") else Path(model)
    found = {name: Tally(Counter(), Counter(), Counter(), {}, {}) for name in DAMAGES}
    for number in range(sets):
        root, output = scenes(work, number, count), work / f"runs-{number}-{count}"
        clean = answered(str(source), names, root, output)
        for name, damage in DAMAGES.items():
            folder = damaged(source, work / "models" / name.replace(" ", "-"), damage)
            runs = answered(str(folder), names, root, output)
            tally = found[name]
            tally.gate[check(runs, clean, Policy(margin=margin)).status] += 1
            same = [replace(r, identity=c.identity) for r, c in zip(runs, clean, strict=True)]
            tally.code[check(same, clean).status] += 1
            sides = [ModelRuns(n, {r.task: r for r in rs}) for n, rs in (("clean", clean), (name, runs))]
            for task in compare(sides[0], sides[1], (), margin).tasks:
                if task.offsets:
                    shifts = [task.offsets[axis].value for axis in paired.AXES]
                    tally.moved.setdefault(task.task, []).append(shifts)
                for place, m in enumerate(task.metrics):
                    lost = task.outcome == "lost" if place == 0 else "worse" in m.flags
                    tally.worse[f"{task.task} {m.spelled}"] += lost
                    tally.change.setdefault(f"{task.task} {m.spelled}", []).append(m.found.value)
        print(f"set {number}: " + "; ".join(f"{n}: {dict(t.gate)}" for n, t in found.items()), flush=True)
    return found


def report(found: dict[str, Tally], asked: str, sets: int, count: int, margin: float, model: str) -> str:
    """The page docs/regressions.md."""
    out = [
        "# What the gate says of damaged checkpoints",
        "",
        f"`python -m benchmarks.regressions --sets {sets} --scenes {count} --tasks {asked}`",
        f"damages `{model}`, runs these tasks on {sets} disjoint sets of {count} scenes and asks what "
        f"`evalkit check --margin {margin:g}` does.",
        "",
        "| damage | pass | inconclusive | fail | fail had the code been at fault (same weights) |",
        "|---|---|---|---|---|",
    ]  # fmt: skip
    for name, tally in found.items():
        cells = [str(tally.gate[s]) for s in (PASS, INCONCLUSIVE, FAIL)]
        out.append(f"| {name} | {' | '.join(cells)} | {tally.code[FAIL]} |")
    out += [
        "",
        "With the same weights a differing text fails: damage done by code is judged by the last",
        "column. With other weights a loss surely larger than the margin fails, and boxes that all",
        "moved one way by surely more than half a step: a coordinate moved by one of 1,024 steps is a",
        "fifth of a pixel here, which overlap hardly sees.",
        "",
        "## By score",
        "",
        "Mean change × 100, and in how many sets it is called worse (first metrics after Holm).",
        "",
        "| task and metric | " + " | ".join(found) + " |", "|---|" + "---|" * len(found),
    ]  # fmt: skip
    for key in next(iter(found.values())).change:
        cells = []
        for tally in found.values():
            values = tally.change[key]
            cells.append(f"{100 * sum(values) / len(values):+.1f}, {tally.worse[key]}")
        out.append(f"| {key} | {' | '.join(cells)} |")
    out += [
        "",
        "## By place",
        "",
        "By how many steps of 1,024 boxes moved down and right, mean and range over the sets.",
        "",
        "| task | " + " | ".join(found) + " |", "|---|" + "---|" * len(found),
    ]  # fmt: skip
    for task in next(iter(found.values())).moved:
        out.append(f"| {task} | {' | '.join(_shifts(t.moved[task]) for t in found.values())} |")
    out += ["", "## Damage", ""]
    out += [f"- {name}: {(damage.__doc__ or '').strip()}" for name, damage in DAMAGES.items()]
    return "\n".join(out) + "\n"


def _shifts(moved: list[list[float]]) -> str:
    axes = zip(*moved, strict=True)
    return "; ".join(f"{sum(a) / len(a):+.2f} ({min(a):+.2f} to {max(a):+.2f})" for a in axes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="demo:later", help="demo:later, or a checkpoint folder")
    parser.add_argument("--sets", type=int, default=20)
    parser.add_argument("--scenes", type=int, default=300)
    parser.add_argument("--margin", type=float, default=0.01)
    parser.add_argument("--tasks", default="demo")
    parser.add_argument("--work", type=Path, default=Path("build/regressions"))
    parser.add_argument("--output", type=Path, default=Path("docs/regressions.md"))
    given = parser.parse_args()
    names = loader.expand(given.tasks.split(","))
    found = measure(given.model, given.sets, given.scenes, given.work, names, given.margin)
    atomic_write(
        given.output, report(found, given.tasks, given.sets, given.scenes, given.margin, given.model)
    )
    print(given.output)


if __name__ == "__main__":
    main()
