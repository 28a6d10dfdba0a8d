"""The frontier: how much of the seed model our crystals keep, and how much llama.cpp's files keep,
byte for byte: `make bench-quality`.

The crystals are grown into `--folder`: one as small as each of llama.cpp's files, some by ratio,
one by quality; what stands there already is taken as it is. Both sides are measured by
`h2q.crystallize.compare` against the float32 original in our engine, each running in its own engine
as it is shipped: ours with int8 inputs and a float32 KV cache, llama.cpp with inputs in Q8_K, Q8_0
or F16 and a KV cache in F16. Rows of 512 tokens of texts on which neither side was calibrated.
llama.cpp's own file in F32 proves that it computes the same function.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import quality_llama as llama
from h2q.bench import machine, slug, write_result
from h2q.cli.options import read_text, source_place
from h2q.core.architecture import tensors
from h2q.core.disk import writing
from h2q.core.errors import H2QError, QualityError, TextError
from h2q.core.units import format_bytes
from h2q.crystal import Crystal, crystal_bytes, open_crystal
from h2q.crystallize import compare, sample_text
from h2q.crystallize.export import export_source
from h2q.crystallize.sampling import TokenArray, cut_text
from h2q.engine import Model, load_crystal, load_original
from h2q.sources import Source, open_source
from h2q.text import Tokenizer
from quality_crystals import Garden
from quality_frontier import MOST_RATIO, Entry, at_ratios, verdicts
from quality_plot import drawing

ROOT = Path(__file__).parent.parent
DATA = ROOT.parent / "shared" / "data"
TEXTS = (DATA / "gutenberg-valid.txt.xz", DATA / "wikitext2-valid.txt")
LENGTH = 512
CALIBRATION_STREAMS, CALIBRATION_SEED = 32, 7_000  # a seed that growing does not use
FOLDER = ROOT / "build" / "quality"
PREFIXES = "as-Q4_K_M"  # the crystal whose prefixes are drawn too
SAME = 1e-5  # KL divergence of a peer that computes the same function


def say(words: str) -> None:
    """A line for the person."""
    print(words, file=sys.stderr, flush=True)


def rows_of(text: Path, tokenizer: Tokenizer, source: Source, tokens: int) -> TokenArray:
    """The first tokens of a text, in rows, as `h2q eval` cuts them."""
    ids = tokenizer.encode(read_text(text)[: 16 * tokens], special=False)
    if len(ids) < LENGTH:
        raise TextError("The text is too short to measure on.", where=text.name)
    return cut_text(ids, source.spec, LENGTH, tokens)


def files(
    source: Source, original: Model, folder: Path, small: bool
) -> Iterator[tuple[str, float, Path]]:
    """Name, nominal bits and path of every file of llama.cpp's, F32 first."""
    first = folder / "F32.gguf"
    export_source(source, first, "seed", "f32")
    yield "F32", 32.0, first
    say("importance matrix ...")
    texts = sample_text(original, CALIBRATION_STREAMS, LENGTH, seed=CALIBRATION_SEED)
    columns = llama.importance(original, texts)
    for kind in (*llama.FILE_TYPES, *(llama.SMALL_TYPES if small else ())):
        if kind not in llama.SMALL_TYPES:
            target = folder / f"{kind.name}.gguf"
            llama.quantize(first, target, kind)
            yield kind.name, kind.bits, target
        if kind.shaped:
            target = folder / f"{kind.name}-imatrix.gguf"
            llama.quantize(first, target, kind, columns)
            yield f"{kind.name} imatrix", kind.bits, target


def peer_entry(name: str, bits: float, path: Path) -> Entry:
    """A GGUF file, not measured yet."""
    size = llama.sizes(path)
    return Entry(name, size.without_words, size.file, size.tensors, bits, {})


def crystal_entry(label: str, crystal: Crystal, groups: int) -> Entry:
    """A prefix, not measured yet."""
    stacks = [crystal.planes(name, groups) for name in crystal.manifest.bits]
    weights = sum(stack[0].spec.rows * stack[0].spec.cols for stack in stacks)
    bits = sum(p.spec.bits * p.spec.rows * p.spec.cols for stack in stacks for p in stack)
    size = crystal_bytes(crystal, groups)
    planes = sum(plane.byte_count for stack in stacks for plane in stack)
    return Entry(f"{label} +{groups}", size, size, planes, bits / weights, {})


def whole(path: Path, source: Source) -> tuple[Entry, Model]:
    """A crystal with all its groups."""
    crystal = open_crystal(path)
    if crystal.spec != source.spec:
        raise TextError("The crystal was not grown from the seed model.", where=path.name)
    count = len(crystal.rank)
    return crystal_entry(path.stem, crystal, count), load_crystal(crystal, count)


def prefixes(path: Path) -> list[tuple[Entry, Model]]:
    """Every prefix of a crystal but the whole."""
    crystal = open_crystal(path)
    return [
        (crystal_entry(path.stem, crystal, count), load_crystal(crystal, count))
        for count in range(len(crystal.rank))
    ]


def measure(
    original: Model, models: list[tuple[Entry, Any]], texts: dict[str, TokenArray]
) -> list[Entry]:
    """The entries with their results."""
    entries = [entry for entry, _ in models]
    for name, rows in texts.items():
        say(f"measure {len(models)} models on {rows.size:,} tokens of {name} ...")
        found = compare(original, [model for _, model in models], rows)
        entries = [
            replace(entry, results={**entry.results, name: result})
            for entry, result in zip(entries, found, strict=True)
        ]
    return entries


def wanted_sizes(made: Sequence[tuple[str, float, Path]]) -> dict[str, int]:
    """Bytes by the kind of file, tokenizer left out; where an importance matrix makes a difference,
    the fewer.
    """
    found: dict[str, int] = {}
    for name, _, path in made:
        size, kind = llama.sizes(path).without_words, name.split()[0]
        found[kind] = min(size, found.get(kind, size))
    return found


def require_same(entry: Entry) -> None:
    """Raises QualityError unless the peer's F32 file is the function we measure against."""
    for text, result in entry.results.items():
        say(f"llama.cpp's F32 file: KL {result.kl_mean:.2g} from our float32 engine on {text}")
        if not result.kl_mean < SAME:
            raise QualityError("llama.cpp does not compute the original.", where=text)


def measured(options: argparse.Namespace) -> tuple[dict[str, Any], list[Entry], list[Entry]]:
    """The result document, the peer's entries and ours."""
    source = open_source(source_place("seed"))
    tokenizer = Tokenizer.from_json(source.tokenizer_json())
    original = load_original(source)
    weights = sum(math.prod(tensor.shape) for tensor in tensors(source.spec))
    texts = {t.name: rows_of(t, tokenizer, source, options.tokens) for t in options.text}
    llama.silence()
    garden = Garden(source, options.folder, say)
    options.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        made = list(files(source, original, Path(folder), options.small))
        paths = [*garden.grown(wanted_sizes(made[1:])), *options.crystal]
        ours = [whole(path, source) for path in paths]
        ours += [found for path in paths if path.stem == PREFIXES for found in prefixes(path)]
        theirs = [(peer_entry(*m), llama.Peer(m[2], source.spec, LENGTH)) for m in made]
        entries = measure(original, [*theirs, *ours], texts)
        for _, peer in theirs:
            peer.close()
    first, *peers = entries[: len(theirs)]
    require_same(first)
    found = entries[len(theirs) :]
    judged = [v for text in texts for v in verdicts(peers, found, text)]
    document = {
        "machine": machine(),
        "versions": {
            "llama_cpp_python": llama.package_version(),
            "gguf": version("gguf"),
            "numpy": machine()["numpy"],
            "h2q": machine()["h2q"],
        },
        "weights": weights,
        "row_length": LENGTH,
        "llama_cpp": {
            "kv_cache": "F16",
            "activations": "Q8_K for K and IQ types, Q8_0 for Q8_0, F16 for F16",
            "importance_tokens": CALIBRATION_STREAMS * LENGTH,
            "original": first.to_json(weights),
            "files": [entry.to_json(weights) for entry in peers],
        },
        "crystals": {
            "kv_cache": "F32",
            "activations": "int8, a scale per token",
            "entries": [entry.to_json(weights) for entry in found],
            "refused": [refused.to_json() for refused in garden.refused],
        },
        "at_ratios": {
            text: {
                str(ratio): entry.to_json(weights)
                for ratio, entry in at_ratios(found, text, weights).items()
            }
            for text in texts
        },
        "verdicts": [verdict.to_json() for verdict in judged],
    }
    return document, peers, found


def show(document: dict[str, Any], peers: list[Entry], ours: list[Entry]) -> None:
    """Tables on stdout."""
    weights = document["weights"]
    for text in peers[0].results:
        print(f"\n{text}, {peers[0].results[text].tokens:,} tokens")
        print(
            f"{'':<22}{'file':>10} {'counted':>10} {'weights':>10} {'nominal':>7} {'actual':>6} "
            f"{'KL':>9} {'ppl':>8} {'top-1':>6} {'quality':>7}"
        )
        for entry in [*peers, *sorted(ours, key=lambda e: e.bytes)]:
            result = entry.results[text]
            print(
                f"{entry.name:<22}{entry.file_bytes:>10,} {entry.bytes:>10,} "
                f"{entry.weight_bytes:>10,} {entry.bits_nominal:>7.3f} "
                f"{entry.bits_actual(weights):>6.3f} {result.kl_mean:>9.5f} "
                f"{result.perplexity_crystal:>8.3f} {result.top1_agreement:>6.1%} "
                f"{result.quality:>7.4f}"
            )
        print(f"\nAt no more bytes than llama.cpp's file without its tokenizer ({text}):")
        for row in document["verdicts"]:
            if row["text"] != text:
                continue
            if row["ours"] is None:
                print(f"  {row['theirs']:<18} no prefix is as small")
                continue
            print(
                f"  {row['theirs']:<18} KL {row['their_kl']:.5f}, ours {row['our_kl']:.5f} "
                f"({row['ours']}, {row['our_bytes']:,} of {row['their_bytes']:,} bytes): "
                f"{row['ratio']:.2f} {'holds' if row['holds'] else f'misses {MOST_RATIO}'}"
            )
        for refused in document["crystals"]["refused"]:
            print(f"\n{refused['name']}: {refused['reason']}")
        print(f"\nOurs by ratio to float32 ({text}):")
        for ratio, entry in document["at_ratios"][text].items():
            figures = entry["texts"][text]
            print(
                f"  {ratio:>3} ({entry['ratio_fp32']:.2f}, {format_bytes(entry['bytes'])}): "
                f"KL {figures['kl_mean']:.5f}, quality {figures['quality']:.4f}, {entry['name']}"
            )


def main() -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=FOLDER, help="for grown crystals")
    parser.add_argument("--crystal", type=Path, nargs="+", default=(), help="others, measured too")
    parser.add_argument("--text", type=Path, nargs="+", default=TEXTS, help="UTF-8, or .xz")
    parser.add_argument("--tokens", type=int, default=16_384, help="of each text")
    parser.add_argument("--no-small", dest="small", action="store_false", help="no IQ types")
    parser.add_argument("--out", type=Path, help="a file, or a folder such as benchmarks/results")
    parser.add_argument("--plot", type=Path, help="an SVG file such as docs/frontier.svg")
    options = parser.parse_args()
    try:
        document, peers, ours = measured(options)
        show(document, peers, ours)
        if options.out is not None:
            target = options.out
            target = target / f"quality-{slug()}.json" if target.is_dir() else target
            write_result(target, document)
            say(f"written to {target}")
        if options.plot is not None:
            with writing("plot", options.plot.name):
                options.plot.write_text(
                    drawing(list(peers[0].results), peers, ours), encoding="utf-8"
                )
    except H2QError as error:
        say(f"error: {error}")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
