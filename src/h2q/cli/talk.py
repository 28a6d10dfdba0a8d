"""h2q run: a crystal talks."""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from h2q.cli.options import CrystalPath, Json
from h2q.core.errors import UsageError
from h2q.core.units import parse_bytes

if TYPE_CHECKING:
    from h2q.engine import Sampler
    from h2q.runtime import Session

MAX_STDIN = 16 << 20


def run(
    crystal: CrystalPath,
    prompt: Annotated[str | None, typer.Argument(help="What the text begins with.")] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Tokens to write at most.")] = 256,
    temperature: Annotated[float, typer.Option(help="0 is greedy.")] = 0.8,
    top_k: Annotated[int, typer.Option(help="0: off.")] = 0,
    top_p: Annotated[float, typer.Option(help="1: off.")] = 0.95,
    seed: Annotated[int | None, typer.Option(help="Repeats a text.")] = None,
    pin: Annotated[
        str | None,
        typer.Option(
            metavar="PLANES",
            help="`all`, `base`, or how many: fixed from the first token on, which repeats a text. "
            "Without it the model talks from its base planes and gets better under way.",
        ),
    ] = None,
    memory: Annotated[
        str | None,
        typer.Option(help="What this process may have resident, as 900MB; the rest is fitted."),
    ] = None,
    timeline: Annotated[bool, typer.Option("--timeline", help="Draw how the start went.")] = False,
    cache: Annotated[
        str, typer.Option(help="Keys and values in 8 bits, values in 4, or both in 16.")
    ] = "k8v8",
    ring: Annotated[
        int, typer.Option(min=0, help="Positions kept, in constant memory; 0: the whole context.")
    ] = 0,
    draft: Annotated[
        int, typer.Option(min=0, help="Tokens the base planes guess ahead: same text, fewer steps.")
    ] = 0,
    json: Json = False,
) -> None:
    """Stream text from a crystal; without a prompt, in a terminal, a conversation of prompts."""
    # On the way to the first token every millisecond counts: no collector while modules load, and
    # no threads for a BLAS that planes never call.
    gc.disable()
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from h2q.engine import Sampler
    from h2q.runtime import HotStartManager
    from h2q.runtime.process import age_seconds

    sampler = Sampler(temperature, top_k, top_p, seed)
    promise = None if memory is None else parse_bytes(memory)
    begun = age_seconds()
    session = HotStartManager().start(
        crystal, cache=cache, ring=ring, ahead=draft, pin=_pinned(crystal, pin), memory=promise
    )
    gc.enable()
    if session.started.warning:
        print(f"warning: {session.started.warning}", file=sys.stderr, flush=True)
    try:
        if prompt is None and sys.stdin.isatty() and not json:
            _converse(session, sampler, max_tokens)
            return
        if prompt is None:
            prompt = "" if sys.stdin.isatty() else sys.stdin.read(MAX_STDIN)
        text = _stream(session, prompt, sampler, max_tokens, sys.stderr if json else sys.stdout)
        figures = _figures(session, begun)
    finally:
        session.close()
    if timeline:
        from h2q.cli.timeline import draw

        print("\n".join(draw(figures["timeline"])), file=sys.stderr, flush=True)
    if json:
        from h2q.cli.output import emit

        emit({"text": text, **figures})


def _pinned(crystal: Path, pin: str | None) -> int | None:
    """Planes that --pin names."""
    if pin is None or pin == "base" or (pin.isdecimal() and len(pin) < 4):
        return None if pin is None else 1 if pin == "base" else int(pin)
    if pin != "all":
        raise UsageError(f"--pin must be `all`, `base` or a number of planes, not {pin!r}.")
    from h2q.crystal.manifest import read_manifest

    return 1 + len(read_manifest(crystal).groups)


def _converse(session: Session, sampler: Sampler, max_tokens: int) -> None:
    from h2q.cli.output import say

    say("Write how a text begins; an empty line or Ctrl-D ends.")
    while True:
        try:
            line = input("> ")
        except EOFError:
            return
        if not line:
            return
        _stream(session, line, sampler, max_tokens, sys.stdout)


def _stream(session: Session, prompt: str, sampler: Sampler, max_tokens: int, out: TextIO) -> str:
    from h2q.core.units import format_bytes, format_seconds
    from h2q.runtime.process import peak_rss_bytes

    pieces = []
    finish = ""
    for event in session.stream(prompt, max_tokens, sampler):
        out.write(event.text)
        out.flush()
        pieces.append(event.text)
        finish = event.finish
    figures = session.statistics
    print(
        f"\n\n{figures.tokens} tokens, {figures.tokens_per_second:.0f} tokens/s, first token after "
        f"{format_seconds(figures.first_token_seconds)}, peak memory "
        f"{format_bytes(peak_rss_bytes())}, ended by {finish}",
        file=sys.stderr,
        flush=True,
    )
    return "".join(pieces)


def _figures(session: Session, begun: float) -> dict[str, Any]:
    """Of the last stream; the time line counts from the birth of this process."""
    from h2q.codec.pages import PAGE
    from h2q.runtime.process import peak_rss_bytes

    figures = session.statistics
    line: list[dict[str, Any]] = [{"stage": "Python and imports", "seconds": begun, "bytes": 0}]
    line += [
        {"stage": event.stage, "seconds": begun + event.seconds, "bytes": event.bytes}
        for event in session.timeline
    ]
    started = session.started
    speed = figures.tokens_per_second
    return {
        "prompt_tokens": figures.prompt_tokens,
        "tokens": figures.tokens,
        "tokens_per_second": speed,
        "ms_per_token": 1000 / speed if speed else None,
        "first_token_after_prompt_seconds": figures.first_token_seconds,
        "peak_rss_bytes": peak_rss_bytes(),
        "planes": session.planes,
        "cache": {"kind": session.pool.kind, "ring": session.keep * PAGE or None},
        "drafted": session.scheduler.drafted,
        "drafts_accepted": session.scheduler.accepted,
        "pinned": started.pinned,
        "budget": started.budget or None,
        "warning": started.warning,
        "arenas": [vars(arena) for arena in started.memory.state()],
        "timeline": line,
    }
