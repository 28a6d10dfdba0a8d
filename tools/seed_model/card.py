"""Write the card of the seed model: what it is, what it saw, how well it predicts new text."""

from __future__ import annotations

import argparse
import json
import lzma
import math
from pathlib import Path

from h2q.core.architecture import tensors
from h2q.crystallize.evaluate import batches, log_probabilities
from h2q.crystallize.sampling import cut_text
from h2q.engine import Sampler, generate, load_original
from h2q.engine.model import Model
from h2q.sources import open_source
from h2q.text import Tokenizer

HERE = Path(__file__).parent
SEED = HERE.parents[1] / "src" / "h2q" / "assets" / "seed"
TOKENS, CONTEXT = 131_072, 1024
BARS = "▁▂▃▄▅▆▇█"


def bits_per_byte(model: Model, tokenizer: Tokenizer, path: Path) -> float:
    """Over the first TOKENS tokens, rows of CONTEXT tokens, each opened by the document token."""
    with lzma.open(path) if path.suffix == ".xz" else path.open("rb") as file:
        text = file.read(6 * TOKENS).decode(errors="ignore")
    ids = tokenizer.encode(text, special=False)[:TOKENS]
    rows = cut_text(ids, model.spec, CONTEXT, None)
    nats, count = 0.0, 0
    for batch in batches(rows):
        truth = log_probabilities(model, batch)
        targets = batch[:, 1:].reshape(-1)
        nats -= float(truth[range(len(targets)), targets].sum())
        count += len(targets)
    size = len(tokenizer.decode(ids[:count]).encode())
    return nats / math.log(2) / size


def spark(values: list[float]) -> str:
    low, high = min(values), max(values)
    return "".join(BARS[round((v - low) / (high - low) * (len(BARS) - 1))] for v in values)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--valid", type=Path, required=True, help="held-out text of the same kind")
    parser.add_argument("--foreign", type=Path, required=True, help="text of another kind")
    arguments = parser.parse_args()
    source = open_source(SEED)
    model, tokenizer = load_original(source), Tokenizer.from_json(source.tokenizer_json())
    log = [json.loads(line) for line in (HERE / "log.jsonl").read_text().splitlines()]
    kept = log[:: max(1, len(log) // 12)]
    count = sum(math.prod(t.shape) for t in tensors(source.spec))
    curve = "\n".join(f"| {r['tokens'] / 1e6:.1f} M | {r['loss']:.3f} |" for r in kept)
    sampler = Sampler(0.8, top_p=0.95, seed=5)
    ids = [token for token, _ in generate(model, [0], sampler, 120, {0})]
    excerpt = tokenizer.decode(ids).strip().replace("\n", "\n> ")
    print(f"""# Seed model

A small llama trained from nothing for H2Q-Evo, to be crystallized, measured and talked to. It is
not a useful assistant: it writes English that sounds like old books. Weights and tokenizer are
ours, under the MIT license.

| | |
|---|---|
| parameters | {count:,} (bfloat16) |
| shape | 6 layers, width 256, inner 768, 4 heads of 64, 2 key-value heads, tied embedding |
| tokenizer | byte-level BPE, 4,096 entries |
| context | 1,024 tokens |
| trained on | public-domain books, 29.1 M tokens at hand |
| tokens seen | {log[-1]["tokens"]:,} in {log[-1]["seconds"] / 60:.0f} minutes on two cores |
| bits per byte, held-out books | {bits_per_byte(model, tokenizer, arguments.valid):.3f} |
| bits per byte, WikiText-2 validation | {bits_per_byte(model, tokenizer, arguments.foreign):.3f} |

Tokens are those of the log's last line; the weights saw a few steps more. Bits per byte: first
{TOKENS:,} tokens of each text, rows of {CONTEXT:,} tokens, measured by `tools/seed_model/card.py`
with the float32 engine on the shipped weights.

Training loss, nats per token: `{spark([r["loss"] for r in kept])}`

| tokens | loss |
|---|---|
{curve}

It writes (temperature 0.8, top-p 0.95, seed 5):

> {excerpt}
""")


if __name__ == "__main__":
    main()
