"""A stream of constant memory over a long text, against the same window computed from scratch.

    python benchmarks/ring.py CRYSTAL --text book.txt.xz --out benchmarks/results

The text goes through a ring of --positions (engine.stream). Every --every-th page it is asked what
a stream that begins anew with the tokens the ring still holds (sinks, then the newest pages) gives
the same page's tokens: bits per byte of both on the same tokens, and the resident set over time.
Kinds of caches are held against float32 keys and values on the text's beginning.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from h2q.bench import machine, slug, write_result
from h2q.cli.options import read_text
from h2q.codec.pages import KINDS, PAGE
from h2q.crystal import open_crystal
from h2q.engine import Model, load_crystal
from h2q.engine.page_pool import PagePool
from h2q.engine.rows import Rows, Span
from h2q.engine.sampling import log_softmax
from h2q.engine.sinks import make_room
from h2q.engine.stream import Stream
from h2q.text import Tokenizer

CHUNK = 256
KL_TOKENS, KL_ROW = 8192, 512


def go_on(model: Model, stream: Stream, end: int) -> np.ndarray:
    """Run tokens up to `end`; float64 log-probabilities (tokens,) of each run token's successor, as
    far as `stream.tokens` has one.
    """
    told = []
    while stream.stored < end:
        count = make_room(model, stream, min(CHUNK, end - stream.stored))
        rows = Rows(stream.pool, [Span(stream, stream.stored, count)])
        wanted = np.arange(count)
        found = log_softmax(model.step(rows.tokens, rows.positions, rows, wanted))
        after = stream.tokens[stream.stored + 1 : stream.stored + count + 1]
        told.append(found[np.arange(len(after)), after])
        stream.advance(count)
    return np.concatenate(told)


def afresh(model: Model, pool: PagePool, ring: Stream, before: list[int], page: list[int]) -> Any:
    """What a new stream over sinks, the pages `before` and `page` gives the page's tokens."""
    stream = Stream(pool, [*ring.tokens[:PAGE], *before, *page])
    told = go_on(model, stream, len(stream.tokens) - 1)
    stream.close()
    return told[-len(page) :]


def compare(model: Model, tokenizer: Tokenizer, tokens: list[int], options: Any) -> dict[str, Any]:
    keep = options.positions // PAGE
    ring = Stream(PagePool(model.spec, keep + 1), tokens, keep)
    fresh = PagePool(model.spec, keep + 1)
    ours, theirs, size, memory = [], [], 0, []
    process = psutil.Process()
    for index, begin in enumerate(range(0, len(tokens) - PAGE, PAGE)):
        told = go_on(model, ring, begin + PAGE)
        if begin % (100 * PAGE) == 0:
            memory.append({"tokens": begin + PAGE, "rss_bytes": process.memory_info().rss})
        if begin // PAGE < keep or index % options.every:
            continue
        before = tokens[begin - (keep - 2) * PAGE : begin]
        again = afresh(model, fresh, ring, before, tokens[begin : begin + PAGE])
        # the first token of the page was foretold by a row of the page before it, in another window
        ours.append(told[: PAGE - 1])
        theirs.append(again[-(PAGE - 1) :])
        size += len(tokenizer.decode(tokens[begin + 1 : begin + PAGE]).encode())
    scale = 1 / math.log(2) / size
    bits = [-float(np.concatenate(one).sum()) * scale for one in (ours, theirs)]
    return {
        "positions": keep * PAGE,
        "tokens": len(tokens),
        "compared_tokens": sum(map(len, ours)),
        "cache_bytes": ring.pool.byte_count,
        "bits_per_byte": bits[0],
        "bits_per_byte_from_scratch": bits[1],
        "ratio": bits[0] / bits[1],
        "target_most": 1.02,
        "memory": memory,
    }


def kinds(model: Model, tokens: list[int]) -> dict[str, Any]:
    """Mean KL divergence of each kind of cache from float32 keys and values, nats."""
    texts = np.array(tokens[: min(KL_TOKENS, len(tokens)) // KL_ROW * KL_ROW]).reshape(-1, KL_ROW)
    sums = dict.fromkeys(KINDS, 0.0)
    for row in texts:
        right = log_softmax(model.forward(row[None], model.new_cache(1, KL_ROW))[0])
        for kind in KINDS:
            stream = Stream(PagePool(model.spec, KL_ROW // PAGE, kind), row.tolist())
            make_room(model, stream, KL_ROW)
            rows = Rows(stream.pool, [Span(stream, 0, KL_ROW)])
            found = log_softmax(model.step(rows.tokens, rows.positions, rows, np.arange(KL_ROW)))
            sums[kind] += float((np.exp(right) * (right - found)).sum())
    return {kind: {"kl_mean": total / texts.size} for kind, total in sums.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("crystal", type=Path)
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--positions", type=int, default=512)
    parser.add_argument("--tokens", type=int, default=100_000)
    parser.add_argument("--every", type=int, default=4)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    crystal = open_crystal(options.crystal)
    model, tokenizer = load_crystal(crystal), Tokenizer(crystal.tokenizer_path)
    text = read_text(options.text)[: 8 * options.tokens]
    tokens = tokenizer.encode(text)[: options.tokens]
    result = {
        "machine": machine(),
        "text": options.text.name,
        "ring": compare(model, tokenizer, tokens, options),
        "kinds": kinds(model, tokens),
    }
    print(json.dumps(result, indent=1))
    if options.out:
        write_result(options.out / f"ring-{slug()}.json", result)


if __name__ == "__main__":
    main()
