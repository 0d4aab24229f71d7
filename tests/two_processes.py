"""One of two processes that train together and evaluate: `two_processes.py RANK FOLDER train|die`."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def main(rank: str, folder: Path, what: str) -> None:
    os.environ |= {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1",
                   "MASTER_PORT": (folder / "port").read_text(), "ACCELERATE_USE_CPU": "1"}  # fmt: skip
    import live
    import torch
    from test_training import made, trained

    import evalkit
    from evalkit.models.paligemma.live import Live
    from evalkit.runs import store
    from evalkit.runs.store import RunFolder

    model = live.model()  # before: of several processes only the first would write the tiny checkpoint
    torch.distributed.init_process_group("gloo")
    inner, asked = Live.predict, []

    def predict(self: Any, requests: Any, *more: Any) -> Iterator[Any]:
        asked.extend(request.id for request in requests)
        if rank == "1" and what == "die":
            os._exit(9)
        if rank == "1" and len(asked) <= 10:
            raise MemoryError("no memory here")
        yield from inner(self, requests, *more)

    Live.predict = predict  # type: ignore[method-assign]
    if rank == "1":  # on another machine, whose disk has no runs
        RunFolder.read_run = store.scores_of = _elsewhere  # type: ignore[assignment,method-assign]
    evaluate = made(folder, processor=live.processor(), name="own").evaluator
    found: dict[str, Any] = {"errors": [], "processes": torch.distributed.get_world_size()}
    for step in (1, 2):  # in the first of which the second process fails
        try:
            evaluate(model, step)
            found["score"] = evaluate.metrics["colours_test/exact_match"]
        except evalkit.errors.UserError as error:
            found["errors"].append(str(error))
    found["asked"] = list(asked)
    given = made(folder, every=2)
    trainer = trained(model, folder / "out", given, ddp_backend="gloo")
    found["losses"] = [e["loss"] for e in trainer.state.log_history if "loss" in e]
    (folder / f"{rank}.json").write_text(json.dumps({**found, "metrics": given.metrics}))


def _elsewhere(folder: Any) -> Any:
    raise OSError(f"{folder} is on another machine")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
