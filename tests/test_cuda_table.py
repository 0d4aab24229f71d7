"""docs/cuda.md lists every branch on a device's type and every use of `torch.cuda`, and what holds each."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "evalkit"
MODEL = "models/paligemma/"
TYPES = {"cpu", "cuda"}
PARTS = (
    "cuda",
    "cudnn",
    "hip",
)  # of a dotted name: torch.cuda.Stream, torch.backends.cudnn.conv, torch.version.hip
OF_TENSORS = {"pin_memory", "record_stream", "record_event", "wait_stream", "wait_event", "synchronize"}
KEYWORDS = {"pin_memory", "non_blocking", "capture_error_mode"}


def dotted(node: ast.AST) -> list[str]:
    """`torch.cuda.Stream` as its parts; [] for what does not begin with a name."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.insert(0, node.attr)
        node = node.value
    return [node.id, *parts] if isinstance(node, ast.Name) else []


def named(parts: list[str]) -> str | None:
    """What the table calls a dotted name; None for one that is not of CUDA."""
    if parts[:2] == ["torch", "cuda"]:
        return ".".join(parts[2:]) or None
    if set(parts[1:]) & set(PARTS):
        return ".".join(parts).replace("torch.", "").replace("backends.", "")
    return None


def uses(node: ast.AST, within: str = "", inside: bool = False) -> Iterator[tuple[str, str]]:
    """(function or constant, use) for all of a module; `inside` a dotted name, whose whole was seen."""
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        within = f"{within}.{node.name}".lstrip(".")
    if isinstance(node, ast.Attribute):
        name = None if inside else named(dotted(node))
        if name is not None:
            yield within, name
        elif node.attr in OF_TENSORS:
            yield within, node.attr
    if isinstance(node, ast.keyword) and node.arg in KEYWORDS:
        yield within, node.arg
    if isinstance(node, ast.Compare) and any(_is_type(n) for n in ast.walk(node)):
        yield within, "branch"
    if isinstance(node, ast.Assign) and isinstance(node.value, (ast.Dict, ast.Set)):
        keys = node.value.keys if isinstance(node.value, ast.Dict) else node.value.elts
        if any(_is_type(key) for key in keys if key is not None):
            yield ast.unparse(node.targets[0]), "limits"
    for child in ast.iter_child_nodes(node):
        yield from uses(child, within, isinstance(node, ast.Attribute))


def _is_type(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and node.value in TYPES


def in_code() -> dict[tuple[str, str], set[str]]:
    found: dict[tuple[str, str], set[str]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        name = str(path.relative_to(PACKAGE)).removeprefix(MODEL)
        for within, use in uses(ast.parse(path.read_text(encoding="utf-8"))):
            found.setdefault((name, within), set()).add(use)
    return found


def in_table() -> dict[tuple[str, str], tuple[set[str], str]]:
    """The uses of each place, and what holds them."""
    found = {}
    for line in (ROOT / "docs" / "cuda.md").read_text(encoding="utf-8").splitlines():
        row = re.fullmatch(r"\| `(\S+)` `(\S+)` \| (.*?) \| .*? \| (.*?) \|", line)
        if row:
            place = row[1], row[2]
            assert place not in found, f"{place} has two rows"
            found[place] = set(row[3].split()), row[4]
    return found


def test_the_table_has_every_use() -> None:
    listed, code = {place: names for place, (names, _) in in_table().items()}, in_code()
    assert len(code) > 25
    assert listed == code


def test_what_holds_them_is_there() -> None:
    tests = {
        name
        for path in (ROOT / "tests").glob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    for place, (_, held) in in_table().items():
        named = re.findall(r"`(\w+)`", held)
        assert named or "part 1" in held, f"{place}: nothing holds it"
        assert set(named) <= tests, f"{place}: no test is called {set(named) - tests}"


def test_a_use_cannot_hide() -> None:
    source = (
        "LIMITS = {'cpu': 1}\n"
        "class A:\n"
        "    def f(self, x):\n"
        "        if x.device.type != 'cuda' or torch.backends.cudnn.enabled:\n"
        "            x.pin_memory().to(x, non_blocking=True)\n"
        "        return torch.cuda.memory.empty_cache()\n"
    )
    assert set(uses(ast.parse(source))) == {
        ("LIMITS", "limits"),
        ("A.f", "branch"),
        ("A.f", "cudnn.enabled"),
        ("A.f", "pin_memory"),
        ("A.f", "non_blocking"),
        ("A.f", "memory.empty_cache"),
    }
