"""Trains the demo's mask VQ-VAE and its two PaliGemma checkpoints from nothing.

    python -m evalkit.demo.train --out DIR [--minutes 76]

Takes up again where it was cut: finished stages are read from DIR, the language stage goes on
from its last save. The files to ship end up in DIR/assets.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import torch

from evalkit.demo import world
from evalkit.demo.training import check, language, tokenizer, vae, vision
from evalkit.demo.training import model as m

VISION_SHARE, EARLIER_SHARE = 0.24, 0.12
"""Of the minutes for the tower; of the language stage at which `earlier` is taken."""


def main() -> None:
    """Run all stages."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=76.0, help="for tower and language")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    masks = _masks(args.out)
    processor = tokenizer.processor(world.SIZE, m.GRID**2)
    model, head = _seeing(processor, args.out, args.minutes * VISION_SHARE)
    minutes = args.minutes * (1 - VISION_SHARE)

    def report(trained: Any) -> str:
        return f"{time.strftime('%T')} {check.score(trained, processor, masks, scenes=60)}"

    run = language.Run(model, head, args.out / "language.pt", lr=2e-3)
    language.train(run, processor.tokenizer, masks, minutes, check=report, every=3.5)
    fresh = tokenizer.processor(world.SIZE, m.GRID**2)  # the used one would save its padding
    _ship(args.out, fresh, minutes)


def _masks(out: Path) -> vae.MaskVAE:
    if not (out / "vae.pt").exists():
        return vae.train(out)
    masks = vae.MaskVAE()
    masks.load_state_dict(torch.load(out / "vae.pt", weights_only=True))
    masks.eval()
    return masks


def _seeing(processor: Any, out: Path, minutes: float) -> tuple[Any, m.Dense]:
    """A model whose tower has been trained, and the dense head."""
    model = m.fresh(len(processor.tokenizer), processor.image_token_id)
    seeds = range(vision.TRAIN_SEED, vision.TRAIN_SEED + 400)
    images = torch.stack([torch.from_numpy(world.render(world.make(s))) for s in seeds])
    m.start(model, images, processor.tokenizer.convert_tokens_to_ids(m.LOC0))
    if not (out / "vision-done").exists():
        head = vision.train(model, out, minutes)
        (out / "vision-done").touch()
        return model, head
    state, head = torch.load(out / "vision.pt", weights_only=True), m.Dense()
    model.load_state_dict(state["model"])
    head.load_state_dict(state["head"])
    return model, head


def _ship(out: Path, processor: Any, minutes: float) -> None:
    """Write DIR/assets from the last snapshot and the one nearest to the earlier share."""
    snapshots = {float(p.stem[2:]): p for p in out.glob("at*.pt")}
    early = min(snapshots, key=lambda at: abs(at - EARLIER_SHARE * minutes))
    ship(
        out / "assets",
        processor,
        out / "vae.npz",
        {"later": snapshots[max(snapshots)], "earlier": snapshots[early]},
    )


def ship(assets: Path, processor: Any, masks: Path, snapshots: dict[str, Path]) -> None:
    """Write configuration, processor, mask decoder and the named weights in bfloat16."""
    from transformers import GenerationConfig

    assets.mkdir(parents=True, exist_ok=True)
    processor.save_pretrained(assets)
    config = m.config(len(processor.tokenizer), processor.image_token_id)
    config.architectures, config.dtype = ["PaliGemmaForConditionalGeneration"], "bfloat16"
    config.save_pretrained(assets)
    GenerationConfig(bos_token_id=2, eos_token_id=1, pad_token_id=0).save_pretrained(assets)
    (assets / "masks.npz").write_bytes(masks.read_bytes())
    for name, path in snapshots.items():
        model = m.fresh(len(processor.tokenizer), processor.image_token_id)
        model.load_state_dict(torch.load(path, weights_only=True))
        model.to(torch.bfloat16).save_pretrained(assets / name)
        weights = (assets / name / "model.safetensors").rename(assets / f"{name}.safetensors")
        weights.chmod(0o644)
        for left in (assets / name).iterdir():
            left.unlink()
        (assets / name).rmdir()


if __name__ == "__main__":
    main()
