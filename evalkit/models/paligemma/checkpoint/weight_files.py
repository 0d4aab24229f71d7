"""Which files of a folder hold its weights: one, or the shards that an index names."""

from __future__ import annotations

from pathlib import Path

from evalkit.errors import ModelError
from evalkit.models.paligemma.checkpoint import settings
from evalkit.models.paligemma.checkpoint.safetensors import Header, headers

ADAPTERS = ("adapter_model.safetensors", "adapter_model.bin")
SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


def find(folder: Path) -> tuple[tuple[Header, ...], tuple[str, ...]]:
    """The headers of the weight files, and what is to be said of the choice.

    Where `model.safetensors` lies beside shards, the index decides, unless none of its shards is there.
    Raises ModelError if there are none, if shards are missing, or if the index contradicts them.
    """
    single, index = folder / SINGLE, folder / INDEX
    for name in ADAPTERS:
        if (folder / name).is_file() and (single.is_file() or index.is_file()):
            raise ModelError(
                f"{folder}: holds full weights and an adapter's ({name}); keep them in two folders and give "
                "--model WEIGHTS --adapter ADAPTER, or remove the adapter if it is merged"
            )
    if index.is_file():
        home = _index(index)
        named = sorted(set(home.values()))
        missing = [name for name in named if not (folder / name).is_file()]
        if single.is_file() and SINGLE not in named and len(missing) == len(named):
            stale = f"{index}: none of the shards that it names is there; {SINGLE} is used"
            return headers((single,)), (stale,)
        if missing:
            shown = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
            raise ModelError(
                f"{index}: {len(missing)} of {len(named)} weight files that it names are missing: {shown}; "
                "copy or download them again"
            )
        found = headers(tuple(folder / name for name in named))
        _check(index, home, dict(zip(named, found, strict=True)))
        both = single.is_file() and SINGLE not in named
        said = f"{folder}: {SINGLE} lies beside the shards that {INDEX} names; the shards are used"
        return found, (said,) if both else ()
    if single.is_file():
        lost = sorted(f.name for f in folder.glob("model-*-of-*.safetensors"))
        names = ", ".join(lost[:2]) + (", ..." if len(lost) > 2 else "")
        stray = f"{folder}: {SINGLE} is used, not the shards beside it ({names}): no index names them"
        return headers((single,)), (stray,) if lost else ()
    pickled = sorted(f.name for f in folder.iterdir() if f.suffix in PICKLED)
    if pickled:
        raise ModelError(
            f"{folder}: only pickled weights ({pickled[0]}), which can run code when opened and are never "
            "loaded; convert them where you trust them: from_pretrained(FOLDER).save_pretrained(OUT)"
        )
    raise ModelError(f"{folder}: no weights; model.safetensors (or its shards and their index) is missing")


def _index(index: Path) -> dict[str, str]:
    """The file of every tensor, by the tensor's name."""
    home = settings.read(index).part("weight_map").content
    if not home:
        raise ModelError(f"{index}: names no weight files; copy or download them again")
    for name, file in home.items():
        inside = isinstance(file, str) and file.endswith(".safetensors") and not Path(file).is_absolute()
        if not inside or ".." in Path(file).parts:
            raise ModelError(
                f"{index}: weight_map: {name}: is {str(file)[:60]!r}; it must be the name of a .safetensors "
                "file in this folder"
            )
    return dict(home)


def _check(index: Path, home: dict[str, str], found: dict[str, Header]) -> None:
    """Raises ModelError unless every tensor is in the file that the index says."""
    for name, file in home.items():
        if name not in found[file].tensors:
            raise ModelError(
                f"{index}: says that {name} is in {file}, which does not hold it; the index belongs to other "
                "shards: copy or save them again together"
            )
