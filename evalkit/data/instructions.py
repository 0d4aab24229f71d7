"""PaliGemma's prompts as training data spells them: `detect cat ; dog`, `caption en`, or a question."""

from __future__ import annotations

VERBS = ("detect", "segment", "caption", "text")
"""What a prompt asks for; `text` is whatever is none of the others."""
_CAPTION = ("caption", "cap", "describe", "description")


def verb(prompt: str) -> str:
    """One of `VERBS`. `<image>` before the prompt is the image."""
    first = plain(prompt).split(None, 1)[:1]
    word = first[0].lower().rstrip(".:,") if first else ""
    return "caption" if word in _CAPTION else word if word in ("detect", "segment") else "text"


def classes(prompt: str) -> tuple[str, ...]:
    """The names that `detect` or `segment` asks for, as spelled, in order, each once."""
    _, _, rest = plain(prompt).partition(" ")
    return tuple(dict.fromkeys(name.strip() for name in rest.split(";") if name.strip()))


def plain(prompt: str) -> str:
    """The prompt without placeholders of images and blanks around it."""
    prompt = prompt.strip()
    while prompt.startswith("<image>"):
        prompt = prompt.removeprefix("<image>").strip()
    return prompt
