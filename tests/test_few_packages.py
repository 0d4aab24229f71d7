"""The engine and the embedded checkpoints need torch, transformers, numpy, Pillow, PyYAML, safetensors, tqdm
and no other package."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
MISSING = (
    "simplejpeg", "pycocotools", "pycocoevalcap", "datasets", "pyarrow", "pandas", "scipy", "lxml", "shapely",
    "rapidfuzz", "av", "peft", "accelerate",
)  # fmt: skip
ASK = """
import sys
from pathlib import Path

sys.modules.update(dict.fromkeys({missing!r}))  # to import one of them raises ModuleNotFoundError

from evalkit import demo
from evalkit.demo import data, world
from evalkit.models.paligemma import PaliGemma
from evalkit.types import Decode, ImageRef, Preparation, Request

image = data.write(Path({folder!r}), scenes=1) / "images" / (data.NAME % 1)
model = PaliGemma(str(demo.checkpoint()), device="cpu")
asked = Request(
    "a", (ImageRef(str(image)),), "answer en how many shapes are there?", Preparation(224), Decode(4)
)
(found,) = model.predict([asked])
print(found.text, len(world.make(0).things))
"""


def test_an_answer_without_the_other_packages(tmp_path: Path) -> None:
    code = ASK.format(missing=MISSING, folder=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    told, right = done.stdout.split()
    assert told == right
