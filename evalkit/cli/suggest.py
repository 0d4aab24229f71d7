"""A command line that says a mistyped word in one line, with the nearest right one."""

from __future__ import annotations

import argparse
import itertools
import re
from typing import Any, NoReturn

from evalkit.errors import meant
from evalkit.printing import one_line, say

FOREIGN = {
    "--wandb-args": "; --report-to wandb reports to Weights & Biases (docs/trackers.md)",
    "--apply-chat-template": "; PaliGemma has no chat template, a task's prompt is sent as it is",
    "--fewshot-as-multiturn": "; PaliGemma's prompts are zero-shot",
    "--system-instruction": "; PaliGemma has no system prompt; --prompt changes a task's",
    "--trust-remote-code": "; no code of a checkpoint is run; --model module:FILE.py:CLASS runs yours",
    "--use-cache": "; answers are always kept, and the same command goes on from them",
    "--predict-only": "; predictions are kept in results/RUN/predictions, `evalkit export` writes them out",
    "--write-out": "; `evalkit show TASK` prints the exact prompt of a sample",
    "--show-config": "; `evalkit show TASK --yaml` prints the task file",
    "--data": " of this command; `evalkit data FOLDER --save-task NAME.yaml` makes a task for --tasks",
    "--verbosity": "; progress and warnings go to stderr: 2>/dev/null hides them",
}
"""Flags of other harnesses or commands, and what does their work here."""


class Parser(argparse.ArgumentParser):
    """Says a mistake in one line, with the nearest right word; the page of all flags is `--help`'s."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse's, but a command looks at its flags' names first, before it misses required ones."""
        if " " in self.prog:  # a command, not `evalkit` itself
            known = {word for action in self._actions for word in action.option_strings if word[1] == "-"}
            for word in itertools.takewhile(lambda word: word != "--", args or ()):
                flag = word.partition("=")[0]
                there = flag in known or (flag not in FOREIGN and any(k.startswith(flag) for k in known))
                if flag.startswith("--") and not there:
                    near = FOREIGN.get(flag) or meant(flag, known) or " of this command"
                    self.error(f"{flag}: no such flag{near}")
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        said, found, choices = message.partition(" (choose from ")
        near = meant(said.rpartition(": ")[2].strip("'"), re.findall(r"[\w-]+", choices)) if found else ""
        said = one_line(said + near if near else message)
        say(f"{self.prog}: {said}; see {self.prog} --help")
        raise SystemExit(2)
