"""Which recording of the reference is tested where; a file that no line names is a failure."""

from __future__ import annotations

from fnmatch import fnmatch

import pytest
from oracle_inputs import ABSENT, FOLDER

# File, or pattern of files (and what in it) -> the test file, or the number of the issue that brings it.
TABLE = {
    "models.json (float32, bfloat16 cache, no soft cap, teacher forced)": "test_oracle_model.py",
    "model_extra.json (frames, suffix, masked logits)": "test_oracle_model.py",
    "model_*.npz": "test_oracle_model.py",
    "*.safetensors": "test_oracle_model.py",
    "*.config.json": "test_oracle_model.py",
    "decode_models.json (greedy, beams; float32 and bfloat16 cache)": "test_oracle_model.py",
    "e2e.json (greedy, beams; float32 and bfloat16 cache)": "test_oracle_model.py",
    "beam_stub.json": "test_oracle_model.py",
    "beam_stub_tables.npz": "test_oracle_model.py",
    "prompt_tokens.json (with Gemma's vocabulary)": "test_oracle_prompts.py",
    "resize.json": "test_oracle_images.py",
    "decode.json": "test_oracle_images.py",
    "draw_bbox.json": "test_oracle_images.py",
    "video.json": "test_oracle_images.py",
}


@pytest.mark.skipif(not FOLDER.is_dir(), reason=ABSENT)
def test_every_file_is_in_the_table() -> None:
    patterns = [line.split(" ")[0] for line in TABLE]
    files = [path.name for path in FOLDER.iterdir() if path.name != "README.md"]
    assert [name for name in files if not any(fnmatch(name, pattern) for pattern in patterns)] == []
