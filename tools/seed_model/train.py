"""Train the seed model on a CPU or a GPU within a wall-clock budget; resumes from its last
checkpoint.

Matrices are trained by Muon (momentum, then the nearest orthogonal matrix by a Newton-Schulz
iteration; Jordan 2024), the embedding and the norms by AdamW. The learning rate is flat, then falls
linearly to zero over the last third of the budget; in that last part sequences are as long as the
context, before that half as long.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np
import torch
from model import SeedModel, Shape
from torch import Tensor

DECAY = 1 / 3
WARMUP_STEPS = 100


def orthogonalise(gradient: Tensor) -> Tensor:
    """Push all singular values of a matrix towards one (quintic Newton-Schulz, five rounds,
    bf16).
    """
    x = gradient.bfloat16()
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    x = x / (x.norm() + 1e-7)
    for _ in range(5):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return (x.T if tall else x).float()


class Muon:
    """Momentum orthogonalised per matrix, with decoupled weight decay."""

    def __init__(
        self, parameters: list[Tensor], rate: float, momentum: float = 0.95, decay: float = 0.1
    ) -> None:
        self.parameters, self.rate, self.momentum, self.decay = parameters, rate, momentum, decay
        self.state = [torch.zeros_like(p) for p in parameters]

    @torch.no_grad()
    def step(self, scale: float) -> None:
        rate = self.rate * scale
        for p, velocity in zip(self.parameters, self.state, strict=True):
            velocity.mul_(self.momentum).add_(p.grad)
            update = orthogonalise(p.grad.add(velocity, alpha=self.momentum))
            p.mul_(1 - rate * self.decay)
            p.add_(update, alpha=-rate * max(1.0, p.shape[0] / p.shape[1]) ** 0.5)


def batch(
    ids: np.ndarray, tokens: int, length: int, draw: np.random.Generator
) -> tuple[Tensor, Tensor]:
    starts = draw.integers(0, len(ids) - length - 1, tokens // length)
    rows = torch.from_numpy(np.stack([ids[s : s + length + 1] for s in starts]).astype(np.int64))
    return rows[:, :-1], rows[:, 1:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder written by data.py")
    parser.add_argument(
        "--out", type=Path, required=True, help="folder for checkpoint.pt and log.jsonl"
    )
    parser.add_argument("--hours", type=float, default=1.8)
    parser.add_argument("--tokens-per-step", type=int, default=8192)
    parser.add_argument("--layers", type=int, default=Shape.num_hidden_layers)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    shape = Shape(num_hidden_layers=arguments.layers)
    model = SeedModel(shape).to(device)
    named = dict(model.named_parameters())
    matrices = [p for n, p in named.items() if p.ndim == 2 and "embed" not in n]
    muon = Muon(matrices, rate=0.02)
    adam = torch.optim.AdamW(
        [p for n, p in named.items() if p.ndim != 2 or "embed" in n],
        lr=3e-3,
        betas=(0.9, 0.95),
        weight_decay=0.01,
    )
    ids = np.load(arguments.data / "train.npy", mmap_mode="r")
    checkpoint = arguments.out / "checkpoint.pt"
    step, seen, spent, budget = 0, 0, 0.0, arguments.hours * 3600
    if checkpoint.exists():
        saved = torch.load(checkpoint, map_location=device, weights_only=True)
        model.load_state_dict(saved["model"])
        adam.load_state_dict(saved["adam"])
        for mine, theirs in zip(muon.state, saved["muon"], strict=True):
            mine.copy_(theirs)
        step, seen, spent = saved["step"], saved["seen"], saved["spent"]
        print(f"resumed at step {step}, {seen:,} tokens, {spent / 60:.1f} minutes spent")

    def save() -> None:
        temporary = checkpoint.with_suffix(".tmp")
        state = {"model": model.state_dict(), "adam": adam.state_dict(), "muon": muon.state}
        torch.save({**state, "step": step, "seen": seen, "spent": spent}, temporary)
        os.replace(temporary, checkpoint)

    log = (arguments.out / "log.jsonl").open("a")
    losses: list[float] = []
    while spent < budget:
        began = time.monotonic()
        scale = min(1.0, (budget - spent) / (budget * DECAY), (step + 1) / WARMUP_STEPS)
        length = (
            shape.max_position_embeddings
            if spent > budget * (1 - DECAY)
            else shape.max_position_embeddings // 2
        )
        draw = np.random.default_rng([7, step])
        tokens, targets = batch(ids, arguments.tokens_per_step, length, draw)
        with torch.autocast(device, torch.bfloat16):
            loss = model(tokens.to(device), targets.to(device))
        loss.backward()
        torch.nn.utils.clip_grad_norm_([p for g in adam.param_groups for p in g["params"]], 1.0)
        muon.step(scale)
        for group in adam.param_groups:
            group["lr"] = 3e-3 * scale
        adam.step()
        model.zero_grad(set_to_none=True)
        losses.append(loss.item())
        step, seen = step + 1, seen + tokens.numel()
        spent += min(time.monotonic() - began, 60.0)  # a machine that slept was not training
        if step % 50 == 0:
            row = {
                "step": step,
                "tokens": seen,
                "seconds": round(spent),
                "loss": round(float(np.mean(losses)), 4),
            }
            log.write(json.dumps(row) + "\n")
            log.flush()
            left = (budget - spent) / 60
            print(
                f"step {step}  {seen / 1e6:.2f} M tokens  loss {row['loss']}  {left:.0f} min left",
                flush=True,
            )
            losses.clear()
        if step % 200 == 0:
            save()
    save()


if __name__ == "__main__":
    main()
