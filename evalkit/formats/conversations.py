"""Conversations of one question and one answer: LLaVA's, chat messages of OpenAI and ms-swift, ShareGPT."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from evalkit import door
from evalkit.data.faults import Faults
from evalkit.data.readers import read_lines
from evalkit.data.records import name_problem, path_of
from evalkit.data.sources import below, image_ref
from evalkit.data.streamed import read_lists
from evalkit.errors import DataError
from evalkit.types import Format, Remarks, Sample, Source

_IMAGE = "<image>"
_ROLES = {
    **dict.fromkeys(("human", "user"), "user"),
    **dict.fromkeys(("gpt", "assistant", "model", "chatgpt"), "assistant"),
    "system": "system",
}
_NO_IMAGES = ("video", "videos", "audio", "audios")
_BOXES = ("<bbox>", "<ref-object>")  # ms-swift's, for what stands in `objects`


class _Unread(Exception):
    """A record that is left out: the kind of reason, and the reason."""


class _Talk(NamedTuple):
    """What a record says; `answer` is None where its last turn is the question."""

    place: str
    number: int  # of the record, from 0
    name: str  # its id; '' without one
    question: str
    answer: str | None
    system: str
    images: list[str]
    inside: bool  # whether `<image>` stands inside the question


@dataclass(frozen=True)
class Conversations(Format):
    """One sample per record of a JSON list or of JSON lines; id = `id` where all have one of their own, else
    the record's number, from 0.

    A record has `conversations` or `messages`, a list of turns: {from: human | gpt, value: "..."} or
    {role: user | assistant, content: "..."}, where content may be a list of parts, texts and images. Images
    are those parts, or `image` or `images` of the record: names below the source's `images` (by default the
    file's own folder), or absolute paths. Turns of one speaker in a row are one.
    `question` is what the user says, without `<image>`; the target is the answer, and () where there is none.
    `system` is what system turns say: no part of the question, but a prompt may name it.
    """

    fields: ClassVar[tuple[str, ...]] = ("question", "system")
    keys: ClassVar[tuple[str, ...]] = ("path",)
    gives: ClassVar[tuple[str, ...]] = ("texts",)

    def samples(self, source: Source, split: str) -> Iterator[Sample]:
        path = path_of(source, "path", self.keys)
        images = source.path("images") if "images" in source.entry else path.parent
        moved: dict[str, str] = {}
        faults = Faults()

        def of(talk: _Talk) -> Iterator[Sample]:
            where, refs = f"{path}: {talk.place}", []
            for name in talk.images:
                found = below(images, name)
                if found != name and moved.setdefault(found, name) != name:
                    raise DataError(f"{where}: is {name!r}; {found} is what {moved[found]!r} is already")
                refs.append(image_ref(images, found))
            if talk.system:
                said = (
                    "has a system turn; it is no part of the question, but a prompt may name it, as {system}"
                )
                source.remarks.add("system", f"{where}: {said}")
            yield Sample(
                id=talk.name,
                images=tuple(refs),
                fields={"question": talk.question, "system": talk.system},
                target=() if talk.answer is None else (talk.answer,),
                cluster=" ".join(talk.images),
            )

        talks = list(_talks(path, source.remarks, faults))
        yield from faults.of_all(_numbered(talks, path, source.remarks), of)

    def without_target(self, source: Source, split: str) -> str:
        return "they end with the question; an answer is a turn of gpt or assistant"


def _talks(path: Path, remarks: Remarks, faults: Faults) -> Iterator[_Talk]:
    """The records that can be read; what is no JSON is left to `faults`. Raises DataError where there is
    none."""
    first, read = "", 0
    for number, place, data in _records(path, faults):
        try:
            talk = _talk(data, number, place)
        except _Unread as reason:
            kind, why = reason.args
            first = first or f"{path}: {place}: {why}"
            remarks.add(kind, f"{path}: {place}: {why}; it is left out")
        else:
            read += 1
            if talk.inside:
                said = f"has {_IMAGE} inside the question; it is taken out, since images come first"
                remarks.add("inside", f"{path}: {place}: {said}", usual=True)
            yield talk
    if not read:
        faults.done()
        raise DataError(f"{first}; no other record is right either" if first else f"{path}: holds no record")


def _records(path: Path, faults: Faults) -> Iterator[tuple[int, str, Any]]:
    """(number, place, data) of the records of a JSON list or of JSON lines."""
    with door.guarded(path):
        listed = door.head(path).startswith(b"[")
    if listed:
        yield from ((number, f"[{number}]", data) for number, data in enumerate(read_lists(path)))
    else:
        yield from ((number, f"line {number + 1}", data) for number, data in read_lines(path, faults))


def _numbered(talks: list[_Talk], path: Path, remarks: Remarks) -> list[_Talk]:
    """The records with a name each: their ids, or numbers where an id is missing or repeated."""
    names = {talk.name for talk in talks}
    if len(names) == len(talks) and "" not in names:
        return talks
    seen = set[str]()
    for talk in talks:
        if talk.name and talk.name in seen:
            said = f"id {talk.name[:60]!r} is repeated; all samples have their numbers as ids"
            remarks.add("id", f"{path}: {talk.place}: {said}", usual=True)
        seen.add(talk.name)
    return [talk._replace(name=str(talk.number)) for talk in talks]


# --- one record --------------------------------------------------------------------------------


def _talk(data: Any, number: int, place: str) -> _Talk:
    """A record's question and answer. Raises _Unread."""
    turns = (
        next((data[k] for k in ("conversations", "messages") if k in data), None) if _is(data, dict) else None
    )
    if not _is(turns, list) or not turns:
        raise _Unread("layout", "must be an object with `conversations` or `messages`, a list of turns")
    for key in _NO_IMAGES:
        if data.get(key):
            raise _Unread("kind", f"has {key}; only images are read")
    said, shown = list[tuple[str, str]](), list[str]()
    for turn in turns:
        role, text = _turn(turn, shown)
        if said and said[-1][0] == role:
            text = "\n".join(filter(None, (said.pop()[1], text)))
        said.append((role, text))
    stated = [data["system"]] if _is(data.get("system"), str) else []
    system = "\n".join(
        text for text in [*stated, *(t for role, t in said if role == "system")] if text.strip()
    )
    said = [turn for turn in said if turn[0] != "system"]
    roles = [role for role, _ in said]
    if roles.count("user") > 1:
        raise _Unread(
            "turns", f"has {roles.count('user')} questions; a record must have one, with one answer"
        )
    if roles not in (["user"], ["user", "assistant"]):
        raise _Unread("order", "must have a question, and then its answer")
    images = _images(data, shown)
    question, inside = _question(said[0][1], len(images))
    if _is(data.get("objects"), dict) and any(mark in text for _, text in said for mark in _BOXES):
        raise _Unread("boxes", f"has {' or '.join(_BOXES)} in place of boxes; write them out as <loc> tokens")
    name = data.get("id")
    known = str(name) if type(name) is int or (_is(name, str) and name.isprintable()) else ""
    return _Talk(
        place, number, known, question, said[1][1] if len(said) > 1 else None, system, images, inside
    )


def _is(value: Any, kind: type) -> bool:
    return type(value) is kind


def _turn(turn: Any, shown: list[str]) -> tuple[str, str]:
    """(role, text) of a turn; its images are added to `shown`. Raises _Unread."""
    turn = turn if _is(turn, dict) else {}
    speaker = turn.get("from", turn.get("role"))
    role = _ROLES.get(speaker if _is(speaker, str) else "")
    if role is None:
        found = repr(speaker)[:40] if speaker is not None else "nobody"
        raise _Unread("role", f"has a turn of {found}; turns must be of human or user, and gpt or assistant")
    content = turn.get("value", turn.get("content"))
    parts = content if _is(content, list) else [content]
    text = "".join(_part(part, shown) for part in parts)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise _Unread("text", "holds half a character (a lone surrogate); it must be valid Unicode") from None
    return role, text


def _part(part: Any, shown: list[str]) -> str:
    """The text of a part of a turn; '' for an image, which is added to `shown`. Raises _Unread.

    Texts are joined as they are, as ms-swift joins them.
    """
    if _is(part, str):
        return str(part)
    if _is(part, dict):
        kind = part.get("type", next((k for k in ("text", "image", "image_url") if k in part), ""))
        if kind == "text" and _is(part.get("text"), str):
            return str(part["text"])
        if kind in ("image", "image_url"):
            named = next((part[key] for key in ("image", "image_url", "path", "url") if part.get(key)), None)
            if named is not None:  # else it stands for the next of the record's `images`
                shown.append(_name(named))
            return ""
    raise _Unread("part", "has a turn that is neither a text nor a list of texts and images")


def _images(data: dict[str, Any], shown: list[str]) -> list[str]:
    """The names of a record's images: those of its turns, or of its `image` or `images`. Raises _Unread."""
    given = [data[key] for key in ("image", "images") if data.get(key)]
    every = [each for one in given for each in (one if _is(one, list) else [one])]
    found = shown or [_name(each) for each in every]
    if not found:
        raise _Unread("no image", "has no image; every question must be about one")
    return found


def _name(image: Any) -> str:
    """An image's file name, of a name, {path} or {url}. Raises _Unread."""
    if _is(image, dict):
        image = image.get("path") or image.get("url") or ("data:" if image.get("bytes") else None)
    if not _is(image, str):
        raise _Unread("no name", "has an image without a file name")
    if image.startswith("data:"):
        raise _Unread("content", "holds the image itself; save it as a file and write its name")
    name = str(image).removeprefix("file://")
    if "://" in name:
        raise _Unread("address", f"has the image {name[:80]!r}; download it and write its file name")
    if problem := name_problem(name, absolute=True):
        raise _Unread("name", f"image {problem}")
    return name


def _question(text: str, images: int) -> tuple[str, bool]:
    """The question without `<image>`, and whether that stood inside. Raises _Unread."""
    marks = text.count(_IMAGE)
    if marks and marks != images:
        raise _Unread("marks", f"has {marks} {_IMAGE} for {images} images; there must be one for each")
    text = text.strip()
    while text.startswith(_IMAGE) or text.endswith(_IMAGE):
        text = text.removeprefix(_IMAGE).removesuffix(_IMAGE).strip()
    before, *rest = text.split(_IMAGE)
    for part in rest:
        before = f"{before.rstrip()} {part.lstrip()}"
    return before, bool(rest)
