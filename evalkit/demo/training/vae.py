"""The mask VQ-VAE: 64x64 masks as 16 tokens of 128 codes, with the published decoder's keys.

Only codebook and decoder are shipped; the encoder serves to make training targets.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from evalkit.demo import world
from evalkit.demo.training.vision import rate

SIDE, CODES, DEPTH = 64, 128, 512


class Residual(nn.Module):
    """Two 3x3 convolutions with ReLU and a 1x1, added to the input."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(128, 128, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(128, 128, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(128, 128, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.net(x)  # type: ignore[no-any-return]


class MaskVAE(nn.Module):
    """Encoder to 4x4x512, nearest of 128 codes (moving averages), decoder back to 64x64."""

    def __init__(self) -> None:
        super().__init__()

        def down(a: int, b: int) -> list[nn.Module]:
            return [nn.Conv2d(a, b, 4, 2, 1), nn.ReLU()]

        def up(a: int, b: int) -> list[nn.Module]:
            return [nn.ConvTranspose2d(a, b, 4, 2, 1), nn.ReLU()]

        self.encoder = nn.Sequential(
            *down(1, 16),
            *down(16, 32),
            *down(32, 64),
            *down(64, 128),
            Residual(),
            Residual(),
            nn.Conv2d(128, DEPTH, 1),
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(DEPTH, 128, 1),
            nn.ReLU(),
            Residual(),
            Residual(),
            *up(128, 128),
            *up(128, 64),
            *up(64, 32),
            *up(32, 16),
            nn.Conv2d(16, 1, 1),
        )
        self.book = nn.Buffer(torch.randn(CODES, DEPTH))
        self.size = nn.Buffer(torch.ones(CODES))
        self.total = nn.Buffer(self.book.clone())

    def nearest(self, features: Tensor) -> Tensor:
        """(N, DEPTH) -> (N,) code numbers."""
        return (self.book.pow(2).sum(1) - 2 * features @ self.book.T).argmin(1)

    def encode(self, masks: Tensor) -> Tensor:
        """(B, 64, 64) in 0..1 -> (B, 16) code numbers, row by row."""
        with torch.no_grad():
            features = self.encoder(masks[:, None] * 2 - 1).permute(0, 2, 3, 1)
        return self.nearest(features.reshape(-1, DEPTH)).view(len(masks), 16)

    def decode(self, codes: Tensor) -> Tensor:
        """(B, 16) -> (B, 64, 64); positive is mask."""
        grid = self.book[codes].view(-1, 4, 4, DEPTH).permute(0, 3, 1, 2)
        return self.decoder(grid)[:, 0]  # type: ignore[no-any-return]

    def learn_codes(self, features: Tensor, codes: Tensor, step: int) -> None:
        """Moving averages of the (detached) features each code took; unused codes restart."""
        hot = nn.functional.one_hot(codes, CODES).float()
        self.size.lerp_(hot.sum(0), 0.02)
        self.total.lerp_(hot.T @ features, 0.02)
        if step % 20 == 0:
            dead = self.size < 0.2
            fresh = features[torch.randint(len(features), (int(dead.sum()),))]
            self.total[dead], self.size[dead] = fresh, 1.0
        self.book.copy_(self.total / self.size[:, None])


def crop(thing: world.Thing, fine: int = 2) -> world.Floats:
    """The shape in its own box as (64, 64) coverage."""
    x0, y0, x1, y1 = world.box(thing)
    at = ((np.arange(SIDE * fine) + 0.5) / (SIDE * fine)).astype(np.float32)
    x, y = np.float32(x0) + at * np.float32(x1 - x0), np.float32(y0) + at * np.float32(y1 - y0)
    hits = world._inside(thing, x[None, :], y[:, None]).astype(np.float32)
    return world._shrink(hits, fine)


def _masks(first: int, count: int) -> Tensor:
    things: list[world.Thing] = []
    while len(things) < count:
        things += world.make(first).things
        first += 1
    return torch.from_numpy(np.stack([crop(t) for t in things[:count]]))


def train(out: Path, seconds: float = 200) -> MaskVAE:
    """Train on masks of generated shapes and write `vae.pt` and `vae.npz`."""
    vae = MaskVAE()
    pool, unseen = _masks(3_000_000, 24_000), _masks(0, 512)
    adam = torch.optim.AdamW(vae.parameters(), lr=1e-3, betas=(0.9, 0.98), weight_decay=0.0)
    begun, step = time.time(), 0
    while (done := (time.time() - begun) / seconds) < 1:
        adam.param_groups[0]["lr"] = 1e-3 * rate(done)
        masks = pool[torch.randint(len(pool), (64,))]
        with torch.autocast("cpu", torch.bfloat16):
            features = vae.encoder(masks[:, None] * 2 - 1).permute(0, 2, 3, 1)
        flat = features.float().reshape(-1, DEPTH)
        codes = vae.nearest(flat.detach())
        picked = vae.book[codes]
        passed = (flat + (picked - flat).detach()).view_as(features).permute(0, 3, 1, 2)
        with torch.autocast("cpu", torch.bfloat16):
            drawn = vae.decoder(passed)[:, 0]
        loss = (drawn.float() - (masks * 2 - 1)).pow(2).mean()
        loss = loss + 0.25 * (flat - picked).pow(2).mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
        vae.learn_codes(flat.detach(), codes, step)
        step += 1
        if step % 200 == 0:
            print(
                f"vae {time.time() - begun:.0f} s loss {loss:.4f} IoU {iou(vae, unseen):.4f} "
                f"codes {len(codes.unique())}",
                flush=True,
            )
    vae.eval()
    torch.save(vae.state_dict(), out / "vae.pt")
    export(vae, out / "vae.npz")
    print(f"vae done, unseen IoU {iou(vae, unseen):.4f}", flush=True)
    return vae


def iou(vae: MaskVAE, masks: Tensor) -> float:
    """Mean IoU of masks against their reconstruction."""
    with torch.no_grad():
        truth, drawn = masks > 0.5, vae.decode(vae.encode(masks)) > 0
    both = (truth & drawn).flatten(1).sum(1)
    return float((both / (truth | drawn).flatten(1).sum(1)).mean())


def export(vae: MaskVAE, path: Path) -> None:
    """Codebook and decoder under the keys of the published `vae-oid.npz`, in float16."""
    arrays = {f"decoder.{k}": v.half().numpy() for k, v in vae.decoder.state_dict().items()}
    arrays["_vq_vae._embedding"] = vae.book.half().numpy()
    np.savez_compressed(path, **dict(sorted(arrays.items())))  # type: ignore[arg-type]
