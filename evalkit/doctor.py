"""`evalkit doctor`: is this checkpoint answered alike by both engines and in any batch, how noisy is its
precision, how fast is it here; and what to set."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from evalkit.models.paligemma import PaliGemma
from evalkit.types import Decode, ImageRef, Preparation, Request

PROMPTS = ("caption en", "answer en how many shapes are there?", "detect square ; circle")
TOLERANCE = 5e-3  # logits of two float32 engines beyond which something is wrong


def questions(resolution: int, samples: int) -> tuple[list[Request], Callable[..., Any]]:
    """`samples` requests about a quarter as many generated scenes, and what draws those."""
    from evalkit.demo import questions as asking
    from evalkit.demo import world
    from evalkit.images import Prepared
    from evalkit.resizing import resize

    def prepare(ref: ImageRef, preparation: Preparation) -> Prepared:
        pixels = world.render(world.make(int(ref.path)))
        return Prepared(resize(pixels, preparation.resolution), f"scene {ref.path}", pixels.shape[:2])

    preparation, decode, requests = Preparation(resolution), Decode(max_new_tokens=24), []
    for index in range(samples):
        scene = index // 4
        prompt = (
            PROMPTS[index % 4]
            if index % 4 < len(PROMPTS)
            else "answer en " + asking.vqa(world.make(scene), random.Random(scene))[0].text
        )
        requests.append(Request(f"{index}", (ImageRef(str(scene)),), prompt, preparation, decode))
    return requests, prepare


def examine(
    model: str, options: dict[str, Any], samples: int, say: Callable[[str], None], called: str = ""
) -> tuple[str, bool]:
    """The report as text, and whether all is well. `options` as PaliGemma's (device, dtype, ...); `called` is
    what people call the model (default: `model`)."""
    from evalkit.models.paligemma.diagnose import diagnose

    dtype = options.pop("dtype", None) or "float32"
    for name in ("engine", "stable", "strict", "batch_size", "kv_dtype", "cuda_graphs", "compile"):
        options.pop(name, None)
    info = PaliGemma(model, **options).info
    requests, prepare = questions(info.resolution, samples)
    found = diagnose(
        lambda **given: PaliGemma(model, prepare=prepare, **options, **given), requests, dtype, say
    )
    n = found.samples
    sound = found.differing == 0 and found.engines <= TOLERANCE
    changed = sum(found.changed.values())
    lines = [
        f"{called or model}: {info.describe()}",
        f"engines    plain and fast in float32: {n - found.differing} of {n} texts equal, "
        f"logits at most {found.engines:.1e} apart" + ("" if sound else "  <- too far apart"),
        f"batches    {dtype}, against one by one: "
        + ", ".join(f"{way} {count} changed" for way, count in found.changed.items())
        + f"; logits at most {found.batching:.1e} apart",
    ]
    if dtype != "float32":
        lines.append(
            f"precision  {dtype} and float32: {n - found.rounded} of {n} texts equal, "
            f"logits at most {found.precision:.2g} apart"
        )
    lines.append(
        "speed      " + ", ".join(f"{how}: {rate:.3g} samples/s" for how, rate in found.speed.items())
    )
    lines += ["", *_advice(sound, changed, found.batching, found.precision, dtype)]
    return "\n".join(lines), sound


def _advice(sound: bool, changed: int, batching: float, precision: float, dtype: str) -> list[str]:
    if not sound:
        return ["set        --engine plain, and please report this checkpoint: the engines must agree"]
    if dtype == "float32":
        if not changed:
            return ["set        nothing: in float32 no text hangs on its batch"]
        return [f"set        --stable {max(2 * batching, 1e-3):.2g}: some texts hang on their batch"]
    margin = 2 * max(batching, precision)
    return [
        f"set        --stable {margin:.2g} to have answers closer than twice the noise decided in float32,",
        "           or --dtype float32",
    ]
