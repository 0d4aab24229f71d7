"""Every mistake of `bad_input.py` ends in one sentence and status 2, and `docs/errors.md` lists them.

`EVALKIT_WRITE_DOCS=1 pytest tests/test_errors.py` writes the page anew.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from bad_input import CASES, Break, place
from stub import Stub, checkpoint

from evalkit.cli.main import main
from evalkit.evaluation import evaluate
from evalkit.images import prepare
from evalkit.runs import journal
from evalkit.types import Request

PAGE = Path(__file__).parent.parent / "docs" / "errors.md"
HEAD = """# What is said when something is wrong

Every mistake that a person can mend is one sentence on stderr, `what: what is wrong; what would be right`,
and exit status 2. What was computed is kept. This page is made from the tests:
`EVALKIT_WRITE_DOCS=1 pytest tests/test_errors.py`.
"""
SENTENCES: dict[tuple[str, str], str] = {}


class Decoding(Stub):
    """A stub that opens its images, as a real backend does."""

    def __init__(self) -> None:
        super().__init__(self._open)

    def _open(self, request: Request) -> str:
        prepare.prepare(request.images[0], request.preparation)
        return "red"


def meddlers(monkeypatch: pytest.MonkeyPatch) -> dict[str, Stub]:
    """Models during whose fourth answer something goes wrong around them."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def fill() -> None:
        monkeypatch.setattr(journal, "SYNC_SECONDS", -1.0)
        monkeypatch.setattr(os, "fsync", full)

    deeds: dict[str, Callable[[], object]] = {
        "fills-the-disk": fill,
        "removes-images": lambda: shutil.rmtree("data/pictures"),
        "removes-results": lambda: shutil.rmtree("results"),
    }

    def meddler(deed: Callable[[], object]) -> Stub:
        model = Stub(lambda r: (len(model.asked) == 4 and deed() and "") or "red")
        return model

    return {name: meddler(deed) for name, deed in deeds.items()}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    real = evaluate.checkpoint
    stubs = {"stub": Stub(lambda r: "red"), "decodes": Decoding(), **meddlers(monkeypatch)}
    monkeypatch.setattr(
        evaluate,
        "checkpoint",
        lambda spec, more: checkpoint(stubs[spec]) if spec in stubs else real(spec, more),
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EVALKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("EVALKIT_DATA", raising=False)
    return tmp_path


@pytest.mark.parametrize(("area", "what", "make"), CASES, ids=[f"{a}: {w}" for a, w, _ in CASES])
def test_one_sentence_and_status_2(
    area: str, what: str, make: Break, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = make(place(here))
    assert main(words) == 2
    _, err = capsys.readouterr()
    sentence = err.rstrip("\n").rsplit("\n", 1)[-1].replace(f"{here}/", "")
    assert sentence.startswith("evalkit: ")
    assert "Traceback" not in err
    assert len(sentence) > 40, "what is wrong and what would be right"
    assert len(sentence) < 700
    assert (area, what) not in SENTENCES
    # any digest will do
    said = re.sub(r"(colours_test\.stub\.)(?!0123)[0-9a-f]{8}", r"\g<1>0a1b2c3d", sentence)
    SENTENCES[area, what] = said.removeprefix("evalkit: ")


def test_the_page_is_in_step() -> None:
    if len(SENTENCES) < len(CASES):
        pytest.skip("only a part of the cases ran")
    areas = dict.fromkeys(area for area, _, _ in CASES)
    text = HEAD
    for area in areas:
        text += f"\n## {area}\n\n| what is wrong | what is said |\n|---|---|\n"
        for (a, what), sentence in SENTENCES.items():
            if a == area:
                shown = sentence.replace("|", "\\|")
                text += f"| {what} | {shown} |\n"
    if os.environ.get("EVALKIT_WRITE_DOCS"):
        PAGE.parent.mkdir(exist_ok=True)
        PAGE.write_text(text)
    assert PAGE.read_text() == text, "docs/errors.md is behind; write it with EVALKIT_WRITE_DOCS=1"
