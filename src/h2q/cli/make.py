"""h2q pull and h2q create: models are fetched or described, grown, and installed under a name."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from h2q.cli.options import Json
from h2q.cli.parameters import Argument, Option
from h2q.core.errors import UsageError

if TYPE_CHECKING:
    from h2q.orchestrator.house import WorkEvent
    from h2q.orchestrator.works import Works

NAMES = "hf:org/name, ollama:name, or a name of Ollama's registry like llama3.2."
Quality = Annotated[float | None, Option(help="Share of the likelihood kept; 0.9.")]
Ratio = Annotated[float | None, Option(help="Size of the original in float32 over its own.")]
Bits = Annotated[float | None, Option(help="Per weight, all in, at most.")]
MAX_MODELFILE = 4 << 20


def pull(
    name: Annotated[str, Argument(metavar="NAME", help=NAMES)],
    quality: Quality = None,
    ratio: Ratio = None,
    bits: Bits = None,
    json: Json = False,
) -> None:
    """Fetch a model, grow a crystal of it, and install it; what broke off goes on."""
    from h2q.orchestrator.works import pulled_name

    works = _works(quality, ratio, bits)
    installed = pulled_name(name)
    _follow(works.pull(name))
    _done(works, str(installed), json)


def create(
    name: Annotated[str, Argument(metavar="NAME", help="Of the new model.")],
    file: Annotated[
        Path, Option("-f", "--file", help="The Modelfile; `-` reads it from stdin.")
    ] = Path("Modelfile"),
    quantize: Annotated[
        str, Option("-q", "--quantize", help="Bits as Ollama names them: q8_0, q4_K_M.")
    ] = "",
    quality: Quality = None,
    ratio: Ratio = None,
    bits: Bits = None,
    json: Json = False,
) -> None:
    """Make a model from a Modelfile."""
    from h2q.orchestrator.modelfile import parse_modelfile

    recipe = parse_modelfile(_read(file))
    beside = file.parent / recipe.base
    if str(file) != "-" and not Path(recipe.base).is_absolute() and beside.exists():
        recipe = replace(recipe, base=str(beside))
    works = _works(quality, ratio, bits)
    _follow(works.create(name, replace(recipe, quantize=quantize)))
    _done(works, name, json)


def _read(file: Path) -> bytes:
    try:
        if str(file) == "-":
            return sys.stdin.buffer.read(MAX_MODELFILE + 1)
        with file.open("rb") as opened:
            return opened.read(MAX_MODELFILE + 1)
    except OSError as error:
        raise UsageError(
            f"The Modelfile cannot be read: {error.strerror}.",
            where=str(file),
            fix="Name it with -f.",
        ) from error


def _works(quality: float | None, ratio: float | None, bits: float | None) -> Works:
    """For the person at this machine: its files and its neighbours' registries may be reached, and
    the work does not stand back.
    """
    from h2q.crystal.store import Store
    from h2q.crystallize.options import Options
    from h2q.orchestrator.works import Access, Works

    options = Options(quality=quality, ratio=ratio, bits=bits)
    return Works(Store(), Access(private=True, paths=True, nice=0, options=options))


def _follow(events: AsyncIterator[WorkEvent]) -> None:
    import asyncio

    from h2q.cli.output import progress
    from h2q.core.events import Progress

    async def main() -> None:
        with progress() as listen:
            async for event in events:
                unit = "bytes" if event.digest else ""
                listen(Progress(event.status, event.done, event.total or 1, unit))
                if not event.total:
                    listen(Progress(event.status, 1, 1))

    asyncio.run(main())


def _done(works: Works, name: str, json: bool) -> None:
    from h2q.cli.output import emit, say
    from h2q.core.units import format_bytes

    model = works.store.find(name)
    if json:
        origin = dict(model.details.origin)
        origin.pop("growth", None)
        emit(
            {
                "name": str(model.name),
                "digest": model.digest,
                "size": model.size,
                "capabilities": list(model.details.capabilities),
                "origin": origin,
            }
        )
        return
    say(f"{model.name} is installed, {format_bytes(model.size)}. Talk to it: h2q run {model.name}")
