"""Where a checkpoint is: a folder here, a `.npz`, or a snapshot from the hub."""

from __future__ import annotations

import re
from pathlib import Path

from evalkit import door
from evalkit.errors import ModelError

MARKS = ("config.json", "adapter_config.json")  # one of them is in every checkpoint's folder
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def inside(folder: Path, option: str) -> str:
    """What to give instead of a folder that is no checkpoint and holds some: a trainer's output, or a folder
    of the hub's cache. '' where it holds none."""
    below = [*folder.iterdir(), *folder.glob("snapshots/*")] if folder.is_dir() else []
    found = [p for p in below if any((p / name).is_file() for name in MARKS)]
    if not found:
        return ""
    last = max(found, key=lambda p: ([int(n) for n in re.findall(r"\d{1,18}", p.name)][-1:], p.name))
    steps = any(folder.glob("checkpoint-*"))
    more = f", or evaluate each with: evalkit watch {folder} --tasks ..." if steps else ""
    count = f"{len(found)} checkpoint{'s' * (len(found) > 1)}"
    return f"holds {count} and is none itself; give {option} {last}{more}"


def resolve(
    spec: str, revision: str | None = None, what: str = "a checkpoint folder in Hugging Face layout"
) -> Path:
    """The path of a local checkpoint, or the snapshot folder of a hub id (downloaded if not cached). `what`
    is asked for in messages.

    Raises ModelError if there is no such folder, or the hub cannot be reached or refuses.
    """
    path = door.home(spec)
    if path.is_dir():
        if revision is not None:
            raise ModelError(f"{spec}: --revision {revision}: a local folder has no revisions; leave it out")
        return path
    if path.suffix == ".npz" and path.is_file():
        return path
    if path.is_file():
        raise ModelError(
            f"{spec}: is a file; name the checkpoint's folder {path.parent}, or a .npz of big_vision"
        )
    if not HUB_ID.fullmatch(spec):
        raise ModelError(f"{spec}: no such folder; give {what} or a hub id like google/paligemma-3b-mix-224")
    return _from_hub(spec, revision)


def _from_hub(spec: str, revision: str | None) -> Path:
    # Imported here: reading a local checkpoint needs no hub client.
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    shown = f"{spec}@{revision}" if revision else spec
    try:
        return Path(
            snapshot_download(spec, revision=revision, allow_patterns=["*.json", "*.safetensors", "*.model"])
        )
    except GatedRepoError:
        raise ModelError(
            f"{shown}: the licence must be accepted first; accept it at "
            f"https://huggingface.co/{spec} and set HF_TOKEN"
        ) from None
    except RevisionNotFoundError:
        raise ModelError(f"{shown}: no such revision on the hub; give a commit, tag or branch") from None
    except RepositoryNotFoundError:
        raise ModelError(f"{shown}: neither a folder here nor a repository on the hub") from None
    except Exception as error:  # the client's network errors have no common class
        raise ModelError(
            f"{shown}: no such folder here, and the hub cannot be reached ({type(error).__name__}); "
            "download it elsewhere and give its folder"
        ) from None
