"""h2q run: a crystal talks."""

from __future__ import annotations

import gc
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

from h2q.cli.options import CrystalPath, Json
from h2q.cli.parameters import Argument, Given, Option
from h2q.core.errors import UsageError
from h2q.core.units import parse_bytes

if TYPE_CHECKING:
    from h2q.core.asks import Ask, Form
    from h2q.core.events import TokenEvent
    from h2q.runtime.service import Service

MAX_STDIN = 16 << 20
MAX_SCHEMA = 1 << 20
TOKENS = 256  # of a text, unless more are asked for
Penalty = Annotated[float, Option(help="Of tokens that were there, taken off; 0: off.")]


def run(
    given: Given,
    crystal: CrystalPath,
    prompt: Annotated[str | None, Argument(help="What the text begins with.")] = None,
    chat: Annotated[
        bool, Option("--chat", help="Talk in turns, also down a pipe: a line is a turn.")
    ] = False,
    max_tokens: Annotated[
        int | None, Option(min=1, help="To write at most; 256 of a text, unless given.")
    ] = None,
    temperature: Annotated[float, Option(help="0 is greedy.")] = 0.8,
    top_k: Annotated[int, Option(help="0: off.")] = 0,
    top_p: Annotated[float, Option(help="1: off.")] = 0.95,
    min_p: Annotated[float, Option(help="Of the likeliest token's share; 0: off.")] = 0.0,
    repeat_penalty: Annotated[float, Option(help="Of tokens that were there; 1: off.")] = 1.0,
    presence_penalty: Penalty = 0.0,
    frequency_penalty: Penalty = 0.0,
    repeat_last_n: Annotated[int, Option(help="Tokens penalties see; -1: all.")] = 64,
    seed: Annotated[int | None, Option(help="Repeats a text.")] = None,
    stop: Annotated[list[str] | None, Option(help="A text that ends the output.")] = None,
    format: Annotated[str, Option(help="`json`: any JSON object.")] = "",
    schema: Annotated[
        Path | None, Option(metavar="FILE", help="A JSON Schema the text is held to.")
    ] = None,
    pin: Annotated[
        str | None,
        Option(
            metavar="PLANES",
            help="`all`, `base`, or how many: fixed from the first token on, which repeats a text. "
            "Without it the model talks from its base planes and gets better under way.",
        ),
    ] = None,
    memory: Annotated[
        str | None,
        Option(help="What this process may have resident, as 900MB; the rest is fitted."),
    ] = None,
    timeline: Annotated[bool, Option("--timeline", help="Draw how the start went.")] = False,
    cache: Annotated[
        str, Option(help="Keys and values in 8 bits, values in 4, or both in 16.")
    ] = "k8v8",
    ring: Annotated[
        int, Option(min=0, help="Positions kept, in constant memory; 0: the whole context.")
    ] = 0,
    draft: Annotated[
        int, Option(min=0, help="Tokens the base planes guess ahead: same text, fewer steps.")
    ] = 0,
    json: Json = False,
) -> None:
    """Stream text from a crystal; without a prompt, in a terminal, a conversation."""
    # On the way to the first token every millisecond counts: no collector while modules load, and
    # no threads for a BLAS that planes never call.
    gc.disable()
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from h2q.core.asks import Ask
    from h2q.core.sampling_options import SamplingOptions
    from h2q.runtime.hot_start import HotStartManager
    from h2q.runtime.process import age_seconds

    chat = chat or (prompt is None and sys.stdin.isatty() and not json)
    if chat and (json or prompt is not None):
        raise UsageError("A conversation takes its turns from the standard input, without --json.")
    sampling = SamplingOptions(
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repeat_penalty=repeat_penalty,
        presence_penalty=presence_penalty,
        frequency_penalty=frequency_penalty,
        repeat_last_n=repeat_last_n,
        seed=seed,
        stop=tuple(stop or ()),
        max_tokens=max_tokens if chat or max_tokens else TOKENS,
    )
    form = _form(format, schema)
    ask = Ask(prompt="", raw=True, sampling=sampling, form=form, ring=ring, split=False)
    begun = age_seconds()
    promise = None if memory is None else parse_bytes(memory)
    service = HotStartManager().start(
        crystal, None, cache, ring, draft, _pinned(crystal, pin), promise
    )
    gc.enable()
    if service.started.warning:
        print(f"warning: {service.started.warning}", file=sys.stderr, flush=True)
    try:
        if chat:
            from h2q.cli.chat import converse
            from h2q.cli.chat_start import talk_with

            converse(service, talk_with(crystal, ask, given))
            return
        if prompt is None:
            prompt = "" if sys.stdin.isatty() else sys.stdin.read(MAX_STDIN)
        out = sys.stderr if json else sys.stdout
        events = _stream(service, replace(ask, prompt=prompt), out)
        figures = _figures(service, ring, events, begun)
        if (experts := service.started.experts) is not None:
            print(experts.words(), file=sys.stderr, flush=True)
    finally:
        service.close()
    if timeline:
        from h2q.cli.timeline import draw

        print("\n".join(draw(figures["timeline"])), file=sys.stderr, flush=True)
    if json:
        from h2q.cli.output import emit

        emit({"text": "".join(event.text for event in events), **figures})


def _pinned(crystal: Path, pin: str | None) -> int | None:
    """Planes that --pin names."""
    if pin is None or pin == "base" or (pin.isdecimal() and len(pin) < 4):
        return None if pin is None else 1 if pin == "base" else int(pin)
    if pin != "all":
        raise UsageError(f"--pin must be `all`, `base` or a number of planes, not {pin!r}.")
    from h2q.crystal.manifest import read_manifest

    return 1 + len(read_manifest(crystal).groups)


def _form(kind: str, schema: Path | None) -> Form | None:
    from h2q.core.asks import Form

    if schema is not None:
        from h2q.core.files import read_bounded

        try:
            return Form("schema", read_bounded(schema, MAX_SCHEMA, UsageError).decode())
        except UnicodeDecodeError as error:
            raise UsageError("The schema is not UTF-8 text.", where=schema.name) from error
    if kind not in ("", "json"):
        raise UsageError(f"--format must be `json`, not {kind!r}.", fix="A schema: --schema FILE.")
    return Form("json") if kind else None


def _stream(service: Service, ask: Ask, out: TextIO) -> list[TokenEvent]:
    from h2q.core.units import format_bytes, format_seconds
    from h2q.runtime.process import peak_rss_bytes

    events = []
    for event in service.generate(ask):
        out.write(event.text)
        out.flush()
        events.append(event)
    print(
        f"\n\n{len(events) - 1} tokens, {_speed(events):.0f} tokens/s, first token after "
        f"{format_seconds(_first(events))}, peak memory "
        f"{format_bytes(peak_rss_bytes())}, ended by {events[-1].finish}",
        file=sys.stderr,
        flush=True,
    )
    return events


def _first(events: list[TokenEvent]) -> float:
    """Seconds from the ask to the first token; 0 without one."""
    return events[0].seconds if len(events) > 1 else 0.0


def _speed(events: list[TokenEvent]) -> float:
    """Tokens per second of decoding, the first token (whose time is the prompt's) left out; 0 when
    there were fewer than two.
    """
    tokens = events[:-1]
    rest = tokens[-1].seconds - tokens[0].seconds if tokens else 0.0
    return (len(tokens) - 1) / rest if rest > 0 else 0.0


def _figures(service: Service, ring: int, events: list[TokenEvent], begun: float) -> dict[str, Any]:
    """Of the last stream; the time line counts from the birth of this process."""
    from h2q.codec.pages import PAGE
    from h2q.runtime.process import peak_rss_bytes

    line: list[dict[str, Any]] = [{"stage": "Python and imports", "seconds": begun, "bytes": 0}]
    line += [
        {"stage": event.stage, "seconds": begun + event.seconds, "bytes": event.bytes}
        for event in service.started.timeline
    ]
    first, speed, usage = _first(events), _speed(events), events[-1].usage
    started = service.started
    return {
        "prompt_tokens": usage.prompt_tokens if usage else 0,
        "tokens": len(events) - 1,
        "tokens_per_second": speed,
        "ms_per_token": 1000 / speed if speed else None,
        "first_token_after_prompt_seconds": first,
        "peak_rss_bytes": peak_rss_bytes(),
        "planes": events[-1].planes,
        "finish": events[-1].finish,
        "cache": {"kind": service.pool.kind, "ring": -(-ring // PAGE) * PAGE or None},
        "drafted": service.scheduler.drafted,
        "drafts_accepted": service.scheduler.accepted,
        "pinned": started.pinned,
        "budget": started.budget or None,
        "warning": started.warning,
        "experts": None if started.experts is None else vars(started.experts),
        "arenas": [vars(arena) for arena in started.memory.state()],
        "timeline": line,
    }
