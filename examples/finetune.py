"""Fine-tunes the embedded checkpoint by LoRA, evaluated while it trains: `python examples/finetune.py`.

Needs peft and accelerate (`pip install peft accelerate`); two minutes on a CPU.
"""

from __future__ import annotations

import argparse
import itertools
import random
from pathlib import Path
from typing import Any

import peft
import torch
import transformers

import evalkit
from evalkit import demo
from evalkit.demo import questions, world

TASK = "shapes_vqa_test"
METRIC = f"eval_{TASK}/vqa_accuracy"
SCENES = 10_000_000  # the first scene to train on; the benchmark's are below 400,000


def lines(count: int) -> list[tuple[Any, str, str]]:
    """(image, prompt, answer) of scenes that the benchmark does not have."""
    drawn = (world.make(seed) for seed in itertools.count(SCENES))
    asked = (
        (world.render(scene), f"answer en {q.text}", q.answer)
        for scene in drawn
        for q in questions.vqa(scene, random.Random(scene.seed))
    )
    return list(itertools.islice(asked, count))


def main(output: Path, steps: int = 80, every: int = 20, limit: int = 30, batch: int = 16) -> float:
    """Trains, and evaluates the best checkpoint again by `evalkit.run`: its score."""
    base = demo.checkpoint("earlier")
    transformers.set_seed(0)
    processor = transformers.AutoProcessor.from_pretrained(base)
    model = transformers.PaliGemmaForConditionalGeneration.from_pretrained(base, dtype=torch.float32)
    layers = "q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj"
    lora = peft.LoraConfig(r=16, lora_alpha=32, target_modules=rf".*language_model.*\.({layers})")
    data = lines(steps * batch)

    def collated(rows: list[tuple[Any, str, str]]) -> Any:
        images, prompts, answers = zip(*rows, strict=True)
        return processor(
            text=[f"<image>{prompt}" for prompt in prompts], images=list(images), suffix=list(answers),
            return_tensors="pt", padding="longest",
        )  # fmt: skip

    callback = evalkit.TrainerCallback(
        tasks=TASK, limit=limit, patience=3, output_path=output / "results", name="shapes-lora"
    )
    trainer = transformers.Trainer(
        model=peft.get_peft_model(model, lora),
        args=transformers.TrainingArguments(
            output_dir=str(output / "shapes-lora"), max_steps=steps, per_device_train_batch_size=batch,
            learning_rate=2e-3, warmup_steps=steps // 10, logging_steps=every, use_cpu=True, report_to=[],
            remove_unused_columns=False, eval_strategy="steps", eval_steps=every, save_strategy="steps",
            save_steps=every, load_best_model_at_end=True, metric_for_best_model=METRIC,
        ),
        train_dataset=data,
        eval_dataset=data[:batch],
        data_collator=collated,
        processing_class=processor,
        callbacks=[callback],
    )  # fmt: skip
    trainer.train()
    for entry in trainer.state.log_history:
        if METRIC in entry:
            print(f"step {entry['step']}: {METRIC} {entry[METRIC]:.3f}")
    best = str(trainer.state.best_model_checkpoint)
    after = evalkit.run(
        best, TASK, limit=limit, output_path=output / "results", base=str(base), name="best-again"
    )
    value = after[0].scores["vqa_accuracy"].value
    print(f"{Path(best).name} by evalkit run: {value:.3f}")
    return value


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "output", nargs="?", type=Path, default=Path("finetune-demo"), help="a folder; %(default)s"
    )
    main(parser.parse_args().output)
