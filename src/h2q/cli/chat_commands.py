"""What a person may say to the program in a conversation: lines that begin with a slash."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from h2q.cli.chat_state import Talk, place
from h2q.core.asks import Effort, Form
from h2q.core.errors import UsageError

if TYPE_CHECKING:
    from h2q.runtime.service import Service

HELP = '''Commands:
  /set parameter NAME VALUE   how tokens are chosen (temperature, top_p, seed, stop, ...)
  /set system TEXT            a text before all turns
  /set format json            answers that are JSON objects; /set noformat lifts it
  /set think [EFFORT]         reason first; /set nothink does not
  /set verbose                tell figures after each answer; /set quiet does not
  /set history                remember lines for the arrow keys; /set nohistory does not
  /show info                  the model: planes, memory, context
  /show parameters            what was set; /show system, /show messages, /show template
  /save NAME, /load NAME      keep this conversation, go on with one that was kept
  /clear                      forget what was said
  /bye                        leave (Ctrl-D too)
  /?                          this

Begin and end a text of many lines with """. Ctrl-C stops an answer.'''
EFFORTS = ("low", "medium", "high", "max")


@dataclass
class Desk:
    """What commands work on. `folder`: of saved conversations; `write`: tells the person a line."""

    talk: Talk
    service: Service
    folder: Path
    write: Callable[[str], None]
    verbose: bool = False
    remember: bool = True


def obey(desk: Desk, line: str) -> bool:
    """Do what a line says; False when the person leaves. Raises UsageError in words."""
    name, _, rest = line.partition(" ")
    if name in ("/bye", "/exit"):
        return False
    command = COMMANDS.get(name)
    if command is None:
        raise UsageError(f"There is no command {name[:40]!r}.", fix="/? lists them.")
    command(desk, rest.strip())
    return True


def _help(desk: Desk, rest: str) -> None:
    desk.write(HELP)


def _clear(desk: Desk, rest: str) -> None:
    desk.talk.messages.clear()
    desk.write("Forgotten.")


def _save(desk: Desk, rest: str) -> None:
    desk.talk.save(place(desk.folder, rest))
    desk.write(f"Saved {len(desk.talk.messages)} turns as {rest}.")


def _load(desk: Desk, rest: str) -> None:
    desk.talk.load(place(desk.folder, rest))
    desk.write(f"Loaded {len(desk.talk.messages)} turns.")


def _show(desk: Desk, rest: str) -> None:
    shown = SHOWN.get(rest)
    if shown is None:
        raise UsageError("/show what?", fix=f"One of {', '.join(SHOWN)}.")
    desk.write(shown(desk))


def _info(desk: Desk) -> str:
    from h2q.core.units import format_bytes

    state = desk.service.state()
    rows = (
        ("model", desk.talk.model),
        ("planes", f"{state.planes} of {state.all_planes}"),
        ("context", f"{state.context_length:,} positions"),
        ("weights", format_bytes(state.weights)),
        ("resident", format_bytes(state.resident)),
    )
    return "\n".join(f"  {name:<10} {value}" for name, value in rows)


def _parameters(desk: Desk) -> str:
    rows = desk.talk.parameters()
    return "\n".join(f"  {name:<20} {value}" for name, value in rows) or "None was set."


def _messages(desk: Desk) -> str:
    turns = [f"{turn.role}: {turn.content}" for turn in desk.talk.messages]
    return "\n".join(turns) or "Nothing was said yet."


def _set(desk: Desk, rest: str) -> None:
    name, _, value = rest.partition(" ")
    setter = SETTERS.get(name)
    if setter is None:
        raise UsageError("/set what?", fix=f"One of {', '.join(SETTERS)}.")
    setter(desk, value.strip())


def _parameter(desk: Desk, value: str) -> None:
    try:
        name, *values = shlex.split(value)
    except ValueError:
        raise UsageError("/set parameter NAME VALUE", fix="Look at the quotes.") from None
    desk.talk.set_parameter(name, values)
    desk.write(f"Set {name} to {' '.join(values)}.")


def _system(desk: Desk, value: str) -> None:
    desk.talk.system = unquoted(value)
    desk.write("Set the system text." if desk.talk.system else "There is no system text now.")


def _format(desk: Desk, value: str) -> None:
    if value not in ("json", ""):
        raise UsageError(f"An answer's format is json, not {value[:40]!r}.")
    desk.talk.form = Form("json") if value else None
    desk.write("Answers are JSON objects." if value else "Answers have no format.")


def _think(desk: Desk, value: str) -> None:
    if value and value not in EFFORTS:
        raise UsageError(f"How hard to think is one of {', '.join(EFFORTS)}.")
    desk.talk.think = cast(Effort, value) if value else True
    desk.write("Answers are thought about first.")


def _no_think(desk: Desk, value: str) -> None:
    desk.talk.think = False
    desk.write("Answers come at once.")


def _verbose(on: bool) -> Callable[[Desk, str], None]:
    def setter(desk: Desk, value: str) -> None:
        desk.verbose = on
        desk.write("Figures follow each answer." if on else "No figures.")

    return setter


def _history(on: bool) -> Callable[[Desk, str], None]:
    def setter(desk: Desk, value: str) -> None:
        desk.remember = on
        desk.write("Lines are remembered." if on else "Lines are not remembered.")

    return setter


def unquoted(text: str) -> str:
    """A text without the quotes around it."""
    for mark in ('"""', '"'):
        if len(text) >= 2 * len(mark) and text.startswith(mark) and text.endswith(mark):
            return text[len(mark) : -len(mark)].strip("\n")
    return text


COMMANDS: dict[str, Callable[[Desk, str], None]] = {
    "/?": _help,
    "/help": _help,
    "/clear": _clear,
    "/save": _save,
    "/load": _load,
    "/show": _show,
    "/set": _set,
}
SHOWN: dict[str, Callable[[Desk], str]] = {
    "info": _info,
    "parameters": _parameters,
    "system": lambda desk: desk.talk.system or "There is no system text.",
    "messages": _messages,
    "template": lambda desk: desk.talk.template or "The crystal's own, or none.",
}
SETTERS: dict[str, Callable[[Desk, str], None]] = {
    "parameter": _parameter,
    "system": _system,
    "format": _format,
    "noformat": lambda desk, _: _format(desk, ""),
    "think": _think,
    "nothink": _no_think,
    "verbose": _verbose(True),
    "quiet": _verbose(False),
    "history": _history(True),
    "nohistory": _history(False),
}
