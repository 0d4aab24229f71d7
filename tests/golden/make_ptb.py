"""Makes ptb.json: our own sentences through pycocoevalcap's tokenizer (needs Java).

python tests/golden/make_ptb.py
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path

import pycocoevalcap.tokenizer.ptbtokenizer as reference

HERE = Path(__file__).parent
TEXTS = (HERE / "ptb_texts.txt").read_text(encoding="utf-8").splitlines()


def printed(text: str) -> str:
    """What the Java tool prints for a file that holds this text."""
    jar = Path(reference.__file__).parent / reference.STANFORD_CORENLP_3_4_1_JAR
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "captions"
        file.write_text(text, encoding="utf-8")
        command = ["java", "-cp", str(jar), "edu.stanford.nlp.process.PTBTokenizer"]
        command += ["-preserveLines", "-lowerCase", str(file)]
        return subprocess.run(command, check=True, capture_output=True).stdout.decode()


def main() -> None:
    lines = printed("\n".join(f"{text}\nx" for text in TEXTS)).split("\n")[::2]
    header = {"command": "python tests/golden/make_ptb.py", "jar": reference.STANFORD_CORENLP_3_4_1_JAR}
    cases = [{"text": text, "raw": line} for text, line in zip(TEXTS, lines, strict=True)]
    golden = {"header": header, "cases": cases}
    (HERE / "ptb.json").write_text(json.dumps(golden, ensure_ascii=False, indent=0) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
