"""One of two processes that train together and evaluate with the callback: `two_processes.py RANK FOLDER`."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path


def main(rank: str, folder: Path) -> None:
    os.environ |= {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1",
                   "MASTER_PORT": (folder / "port").read_text(), "ACCELERATE_USE_CPU": "1"}  # fmt: skip
    import live
    from test_training import made, trained

    given = made(folder, every=2)
    trainer = trained(live.model(), folder / "out", given, ddp_backend="gloo")
    losses = [e["loss"] for e in trainer.state.log_history if "loss" in e]
    found = {"metrics": given.metrics, "losses": losses, "processes": trainer.args.world_size}
    (folder / f"{rank}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
