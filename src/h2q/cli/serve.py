"""h2q serve: models over HTTP, for clients of Ollama, OpenAI and Anthropic."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from h2q.cli.options import Json
from h2q.cli.parameters import Option


def serve(
    host: Annotated[
        str | None, Option(help="Where to listen: OLLAMA_HOST, else this machine only.")
    ] = None,
    port: Annotated[
        int | None, Option(min=0, max=65535, help="11434, as Ollama; 0: any that is free.")
    ] = None,
    ollama: Annotated[
        str, Option(help="A running Ollama, like http://127.0.0.1:11434: its models too.")
    ] = "",
    crystallize: Annotated[
        bool, Option("--crystallize", help="Grow Ollama's models that are asked for.")
    ] = False,
    memory: Annotated[
        str | None,
        Option(help="For all models together, like 4GiB; most of what is free unless given."),
    ] = None,
    keep_alive: Annotated[
        str | None,
        Option(help="A model stays so long when idle: OLLAMA_KEEP_ALIVE, else 5m; -1: ever."),
    ] = None,
    context: Annotated[
        int | None, Option(min=64, help="Positions each model's cache holds; as they fit.")
    ] = None,
    streams: Annotated[int, Option(min=1, max=1024, help="Of one model at once.")] = 64,
    queue: Annotated[int, Option(min=1, help="Requests that may wait for a token.")] = 512,
    per_client: Annotated[
        int, Option(min=0, help="Requests one client may have at once; 0: no limit.")
    ] = 0,
    origins: Annotated[
        str | None,
        Option(help="Web pages that may call, by comma, `*` for any; else OLLAMA_ORIGINS."),
    ] = None,
    drain: Annotated[
        float, Option(min=0, help="Seconds that answers may take to end after SIGTERM.")
    ] = 30.0,
    watch: Annotated[
        list[str] | None,
        Option(help="NAME=FOLDER: a crystal that comes into a folder takes over a name."),
    ] = None,
    warm: Annotated[
        str,
        Option(help="Disk for conversations, like 4GiB, so that none is read twice; 0: none."),
    ] = "0",
    quiet: Annotated[bool, Option("--quiet", help="Log failures only.")] = False,
    json: Json = False,
) -> None:
    """Serve models; API keys come from H2Q_API_KEYS. Ends with the answers under way at SIGTERM."""
    import os

    from h2q.cli.output import emit, say
    from h2q.core import settings
    from h2q.core.errors import UsageError
    from h2q.core.units import parse_bytes
    from h2q.server.address import configured, upstream
    from h2q.server.limits import Limits, ServerSettings
    from h2q.server.ollama import keep_alive as stays
    from h2q.server.opening import Opening, open_house

    if crystallize and not ollama:
        raise UsageError("--crystallize needs --ollama: it grows the models of that server.")
    named = os.environ.get("OLLAMA_ORIGINS", "") if origins is None else origins
    wish = Opening(
        *configured(host, port),
        settings=ServerSettings(
            keys=settings.api_keys(),
            origins=tuple(part for part in map(str.strip, named.split(",")) if part),
            keep_alive=stays.configured() if keep_alive is None else stays.asked(keep_alive),
            limits=Limits(queue=queue, per_client=per_client, drain_seconds=drain),
        ),
        memory=None if memory is None else parse_bytes(memory),
        context=context,
        streams=streams,
        warm=parse_bytes(warm),
        watched=tuple(map(_watched, watch or ())),
        ollama=upstream(ollama) if ollama else "",
        crystallize=crystallize,
        quiet=quiet,
    )

    def listening(address: str) -> None:
        say(f"Listening on {address}")
        if json:
            emit({"address": address, "process": os.getpid()})

    open_house(wish, listening)


def _watched(text: str) -> tuple[str, Path]:
    from h2q.core.errors import UsageError

    name, _, folder = text.partition("=")
    if not name or not folder:
        raise UsageError("It takes a name and a folder: NAME=FOLDER.", where="--watch")
    return name, Path(folder).expanduser().resolve()
