"""The contenders: transformers' `generate` as usually called, and evalkit's backend on the same files."""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from benchmarks.work import Question

EOS = 1


class Scripted:
    """A logits processor for transformers that ends row i after exactly `lengths[i]` new tokens."""

    def __init__(self, lengths: Sequence[int], start: int) -> None:
        self.lengths, self.start = lengths, start

    def __call__(self, ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        now = ids.shape[1] - self.start + 1
        for row, length in enumerate(self.lengths):
            if now < length:
                scores[row, EOS] = -float("inf")
            else:
                scores[row] = -float("inf")
                scores[row, EOS] = 0
        return scores


class Generate:
    """Processor and `generate`, as in the model's documentation."""

    def __init__(self, path: Path, dtype: torch.dtype) -> None:
        import transformers

        self.model = transformers.PaliGemmaForConditionalGeneration.from_pretrained(path, dtype=dtype).eval()
        self.processor = transformers.PaliGemmaProcessor(
            transformers.SiglipImageProcessorPil.from_pretrained(path),
            transformers.AutoTokenizer.from_pretrained(path, padding_side="left"),
        )
        self.dtype = dtype

    def batches(
        self, size: int, new_tokens: int, lengths: Mapping[str, int] | None = None
    ) -> Callable[[Sequence[Question]], dict[str, str]]:
        """A contender that answers in batches of `size`, left-padded, in the given order."""

        def run(questions: Sequence[Question]) -> dict[str, str]:
            answers: dict[str, str] = {}
            for start in range(0, len(questions), size):
                part = questions[start : start + size]
                answers |= self._batch(part, new_tokens, lengths)
            return answers

        return run

    def _batch(
        self, part: Sequence[Question], new_tokens: int, lengths: Mapping[str, int] | None
    ) -> dict[str, str]:
        pictures = [Image.open(q.image).convert("RGB") for q in part]
        texts = ["<image>" + q.prompt for q in part]
        inputs = self.processor(text=texts, images=pictures, return_tensors="pt", padding=len(part) > 1)
        inputs = inputs.to(self.dtype)
        start = inputs["input_ids"].shape[1]
        script = [Scripted([lengths[q.id] for q in part], start)] if lengths else None
        with torch.inference_mode():
            out = self.model.generate(
                **inputs, max_new_tokens=new_tokens, do_sample=False, logits_processor=script
            )
        texts = self.processor.batch_decode(out[:, start:], skip_special_tokens=True)
        return {q.id: text for q, text in zip(part, texts, strict=True)}


def ours(
    path: Path,
    dtype: str,
    side: int,
    new_tokens: int,
    lengths: Mapping[str, int] | None = None,
    **options: Any,
) -> Callable[[Sequence[Question]], dict[str, str]]:
    """evalkit's backend with the processor's protocol; cached image features are cleared between rounds."""
    from evalkit.models.paligemma import PaliGemma
    from evalkit.types import Decode, ImageRef, Preparation, Request

    settings = {"device": "cpu", "protocol": "hf", "engine": "fast", **options}
    backend = PaliGemma(str(path), dtype=dtype, **settings)
    backend.load()
    engine: Any = backend._engine
    preparation = Preparation(side, "bicubic", True, "precise", "ignore")
    skip = set(engine_special(backend))

    if lengths is not None:
        engine.forbid = _script(lengths, engine.decoder.table.shape[0], engine.home)

    def requests(questions: Sequence[Question]) -> Iterator[Request]:
        for q in questions:
            yield Request(q.id, (ImageRef(q.image),), q.prompt, preparation, Decode(new_tokens, None))

    def run(questions: Sequence[Question]) -> dict[str, str]:
        engine.memory.clear()
        tokenizer: Any = backend._prompter and backend._prompter.tokenizer
        found = {}
        for one in backend.predict(requests(questions)):
            # Special tokens are left out on both sides, so that the texts can be compared.
            found[one.id] = tokenizer.decode([t for t in one.tokens if t not in skip])
        return found

    return run


def engine_special(backend: Any) -> list[int]:
    """Ids that `skip_special_tokens` leaves out."""
    return list(backend._prompter.tokenizer.all_special_ids)


def _script(lengths: Mapping[str, int], vocabulary: int, home: torch.device) -> Callable[[Any], torch.Tensor]:
    """The rule of `Scripted` for the rows of a continuous batch."""
    going = torch.zeros(vocabulary, dtype=torch.bool, device=home)
    going[EOS] = True
    ending = ~going

    def forbid(row: Any) -> torch.Tensor:
        return going if len(row.tokens) + 1 < lengths[row.tag[0].request.id] else ending

    return forbid


def main(kind: str, path: str, image: str) -> None:
    """Answers one question in this process and prints its peak resident memory in KiB."""
    torch.set_num_threads(1)
    question = [Question("0", image, "what is it")]
    if kind == "generate":
        print(Generate(Path(path), torch.float32).batches(1, 5)(question))
    else:
        print(ours(Path(path), "float32", 896, 5)(question))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


if __name__ == "__main__":
    main(*sys.argv[1:])
