"""Evaluates two checkpoints from Python, compares them and writes a page: `python examples/evaluate.py`.

Type-checks under `mypy --strict`, as your own code can.
"""

from __future__ import annotations

from pathlib import Path

import evalkit


def main(models: list[str], tasks: list[str], output: Path, limit: int | None = None) -> bool:
    """Runs every model on every task; whether the second may replace the first."""
    runs = evalkit.run(models, tasks, limit=limit, output_path=output, batch_size="auto", dtype="float32")
    for run in runs:
        for metric, score in run.scores.items():
            print(f"{run.model} {run.task} {metric}: {score.value:.3f} [{score.low}, {score.high}]")
    folders = [
        [run.folder.path for run in runs if run.model == name]
        for name in dict.fromkeys(r.model for r in runs)
    ]
    old, new = folders
    print(evalkit.compare(old[0], [str(new[0])], margin=0.02))
    page: str = evalkit.table(output, format="html", output=output / "leaderboard.html")
    print(f"{output / 'leaderboard.html'}: {len(page):,} characters")
    return bool(evalkit.check(new[0], old[0], margin=0.02))


if __name__ == "__main__":
    may = main(["demo:earlier", "demo:later"], ["shapes_vqa_test"], Path("results"), limit=20)
    print("the later checkpoint may replace the earlier one" if may else "it may not")
