"""h2q bench: what the codec loses and how fast everything is, on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from h2q.cli.options import Json
from h2q.cli.parameters import Argument, Option
from h2q.core.errors import UsageError
from h2q.core.events import ProgressListener

if TYPE_CHECKING:
    from h2q.bench import EngineOptions

KNOWN = ("codec", "kernels", "engine", "experts", "serve", "start")
CROWD_SECONDS = 300.0
RESULTS = Path("benchmarks/results")  # of a checkout
PREFIXES = ((1e9, "G "), (1e6, "M "), (1e3, "k "), (1.0, ""), (1e-3, "m"), (1e-6, "µ"), (1e-9, "n"))


def bench(
    what: Annotated[
        str, Argument(help="`codec`, `kernels`, `engine`, `experts`, `serve` or `start`.")
    ] = "kernels",
    mebibytes: Annotated[
        int, Option(min=1, max=4096, help="Codes to read; less than 64 is a mere trial.")
    ] = 256,
    out: Annotated[
        Path | None,
        Option(help="Write the result here. In a checkout: benchmarks/results."),
    ] = None,
    shape: Annotated[
        str,
        Option(
            help="engine, experts, start: sizes of the model; `trial` only shows that all works."
        ),
    ] = "llama-1.1b",
    only: Annotated[
        list[str] | None,
        Option(help="engine, experts, start: this group of rows; may be given again."),
    ] = None,
    repeats: Annotated[int, Option(min=1, max=100, help="engine, start: runs of each kind.")] = 3,
    peer_files: Annotated[
        Path | None,
        Option(
            help="engine, experts, start: a folder that keeps files of the model, gigabytes, for "
            "later."
        ),
    ] = None,
    crystal: Annotated[
        Path | None,
        Option(help="engine, serve: a small crystal. Without one the seed model is grown."),
    ] = None,
    seconds: Annotated[
        float, Option(min=2, max=86400, help="serve: how long many clients talk at once.")
    ] = CROWD_SECONDS,
    clients: Annotated[int, Option(min=1, max=512, help="serve: how many.")] = 64,
    memory: Annotated[
        str, Option(help="experts: what a model may have resident, 2GB or 1500MiB.")
    ] = "2GB",
    json: Json = False,
) -> None:
    """Measure, each speed against something that was measured in the same run."""
    from h2q.bench import (
        DEFAULT_SHAPE,
        TRIAL_BELOW,
        EngineOptions,
        ExpertOptions,
        ServeOptions,
        StartOptions,
        bench_experts,
        bench_serve,
        bench_start,
        write_result,
    )
    from h2q.cli.output import emit, progress, say, table
    from h2q.core.units import parse_bytes

    if what not in KNOWN:
        raise UsageError(f"There is no benchmark {what!r}.", fix=f"Known: {', '.join(KNOWN)}.")
    rows = tuple(only or ())
    with progress() as listen:
        if what == "experts":
            shapes = {} if shape == DEFAULT_SHAPE else {"shape": shape}
            mixed = ExpertOptions(rows, parse_bytes(memory), peer_files, **shapes)
            document = bench_experts(mixed, listen)
        elif what == "serve":
            document = bench_serve(ServeOptions(seconds, clients, crystal=crystal), listen)
        elif what == "start":
            document = bench_start(StartOptions(shape, rows, repeats, peer_files), listen)
        else:
            engine = EngineOptions(shape, rows, repeats, peer_files, crystal)
            document = _measured(what, mebibytes, engine, listen)
    whole = {
        "codec": True,
        "kernels": mebibytes >= TRIAL_BELOW,
        "engine": not only and shape != "trial",
        "experts": shape == DEFAULT_SHAPE,  # each kind of crystal is a run of its own
        "serve": seconds >= CROWD_SECONDS,
        "start": not only and shape != "trial",
    }[what]
    other = what in ("engine", "start") and shape != DEFAULT_SHAPE
    name = f"{what}-{shape}" if other else what
    if what == "experts":
        name = "-".join([what, *(only or ())]).replace(" ", "-")
    target = _target(f"{name}-{document['machine']['slug']}.json", whole, out)
    if target is not None:
        write_result(target, document)
        say(f"written to {target}")
    if json:
        emit(document)
        return
    words = _codec_words if what == "codec" else _kernel_words
    lines = [(name, words(row)) for name, row in document["results"].items()]
    title = f"{what} on {document['machine']['processor']}"
    if "busy_elsewhere" in document:
        title += f", {document['busy_elsewhere']:.0%} of it busy with something else"
    table(title, lines)
    if document.get("peer", "llama.cpp") != "llama.cpp":
        say(document["peer"])


def _measured(
    what: str, mebibytes: int, engine: EngineOptions, listen: ProgressListener
) -> dict[str, Any]:
    from h2q.bench import bench_codec, bench_engine, bench_kernels

    if what == "engine":
        return bench_engine(engine, listen)
    return bench_kernels(mebibytes, listen) if what == "kernels" else bench_codec(listen)


def _target(name: str, whole: bool, out: Path | None) -> Path | None:
    """The file to write; without one, a full run in a checkout keeps its result there."""
    if out is not None:
        return out / name if out.is_dir() else out
    return RESULTS / name if RESULTS.is_dir() and whole else None


def _kernel_words(row: Mapping[str, Any]) -> str:
    words = f"{_figure(row['value'], row['unit']):>24}  {row['ratio']:6.3f} x {row['ratio_to']}"
    if target := row.get("target"):
        asked = "at least" if "least" in target else "at most"
        number = target["least"] if "least" in target else target["most"]
        unit = row["unit"] if target["of"] == "value" else "x"
        verdict = "reached" if target["reached"] else "NOT reached"
        words += f"; {asked} {_figure(number, unit)}: {verdict}"
        if not target["reached"] and "at_limit" in target:
            words += f" (the limit is at {_figure(target['at_limit'], unit)})"
    if limits := row.get("limits"):
        bound = max(limits, key=lambda limit: limit["seconds"])
        words += f"; limit: {bound['by']}, {bound['share']:.0%} of it"
    return words


def _codec_words(row: Mapping[str, Any]) -> str:
    loss = row["figure"] < 1
    words = f"{row['figure']:24.5f}" if loss else f"{_figure(row['figure'], row['what']):>24}"
    for name, value in row.items():
        if name.startswith("ratio_to_"):
            words += f"  {value:.3g} x {name.removeprefix('ratio_to_').replace('_', ' ')}"
    if "target" in row:
        target = f"{row['target']:g}" if loss else _figure(row["target"], row["what"])
        words += f"; target {target}: {'reached' if row['holds'] else 'NOT reached'}"
    return words


def _figure(value: float, unit: str) -> str:
    """Four digits, a prefix of a thousand's power, the unit."""
    if unit in ("x", "%"):
        return f"{value:.3g} {unit}"
    scale, prefix = next((p for p in PREFIXES if abs(value) >= p[0]), PREFIXES[-1])
    return f"{value / scale:.4g} {prefix}{unit}"
