"""Random checkpoints of two shapes, built when needed: `half` is compute-bound like the real model; `thin`
has its depth but almost no width, which isolates the cost of a call other than arithmetic."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

SHAPES: dict[str, dict[str, dict[str, int]]] = {
    "half": {  # 42 M decoder, 9 M vision, 17 M embeddings
        "text": {
            "hidden_size": 512, "intermediate_size": 4096, "num_hidden_layers": 6,
            "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 128,
        },
        "vision": {
            "hidden_size": 384, "intermediate_size": 1536, "num_hidden_layers": 5, "num_attention_heads": 6,
        },
    },
    "thin": {
        "text": {
            "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 18,
            "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 32,
        },
        "vision": {
            "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 27, "num_attention_heads": 2,
        },
    },
    "3b": {
        "text": {
            "hidden_size": 2048, "intermediate_size": 16384, "num_hidden_layers": 18,
            "num_attention_heads": 8, "num_key_value_heads": 1, "head_dim": 256,
        },
        "vision": {
            "hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27,
            "num_attention_heads": 16,
        },
    },
}  # fmt: skip
ROWS = {"half": 32768, "thin": 2048, "3b": 257_216}  # of the embedding table


def tokenizer() -> Any:
    """A GemmaTokenizer with single letters, byte fallback and PaliGemma's special tokens."""
    from transformers import GemmaTokenizer

    pieces = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *(f"<0x{b:02X}>" for b in range(256)), "\n", "▁"]
    pieces += [c for c in "abcdefghijklmnopqrstuvwxyz0123456789;?.," if c not in pieces]
    made = GemmaTokenizer(vocab={p: i for i, p in enumerate(pieces)}, merges=[])
    made.add_special_tokens({"additional_special_tokens": ["<image>"]})
    made.add_tokens([f"<loc{i:04d}>" for i in range(1024)] + [f"<seg{i:03d}>" for i in range(128)])
    return made


def config(shape: str, resolution: int = 224, rows: int = 0, family: int = 1) -> Any:
    """transformers' configuration of a shape; `rows` of its embedding table (0: as many as the shape has)."""
    import transformers

    kind = transformers.GemmaConfig if family == 1 else transformers.Gemma2Config
    text = kind(
        **SHAPES[shape]["text"], vocab_size=rows or ROWS[shape], pad_token_id=0, eos_token_id=1,
        bos_token_id=2,
    )  # fmt: skip
    vision = transformers.SiglipVisionConfig(
        **SHAPES[shape]["vision"], image_size=resolution, patch_size=14, vision_use_head=False,
        projection_dim=text.hidden_size,
    )  # fmt: skip
    return transformers.PaliGemmaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=tokenizer().convert_tokens_to_ids("<image>"),
        projection_dim=text.hidden_size,
        hidden_size=text.hidden_size,
    )


def build(
    folder: Path,
    shape: str,
    resolution: int = 224,
    rows: int = 0,
    family: int = 1,
    dtype: torch.dtype = torch.float32,
) -> Path:
    """Saves a checkpoint of random weights; arguments as `config`."""
    import transformers

    torch.manual_seed(0)
    model = transformers.PaliGemmaForConditionalGeneration(config(shape, resolution, rows, family))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim > 1:  # larger than the initialisation, so that answers differ and margins are wide
                weight.normal_(0, 1.5 * weight[0].numel() ** -0.5)
            if "embed_tokens" in name:
                weight.normal_(0, 1.0)
    model.to(dtype).save_pretrained(folder)
    save_processor(folder, resolution)
    return folder


def save_processor(folder: Path, resolution: int) -> None:
    """Saves the tokenizer and the image processor of a checkpoint."""
    import transformers

    tok = tokenizer()
    tok.save_pretrained(folder)
    pillow = getattr(transformers, "SiglipImageProcessorPil", None) or transformers.SiglipImageProcessor
    processor = transformers.PaliGemmaProcessor(
        pillow(  # the second name is that of transformers before 5.4
            size={"height": resolution, "width": resolution},
            image_seq_length=(resolution // 14) ** 2,
            image_mean=[0.5] * 3,
            image_std=[0.5] * 3,
        ),
        tok,
    )
    processor.save_pretrained(folder)
