"""Command lines read without Typer, which takes longer to load than all of h2q.

Plain ones only: what is left to interpretation, and every mistake, is None here, and then Typer
reads the whole line again. So there is one manner of help and of errors, and no way for the two to
disagree on what they both take (tests/test_command_lines.py).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from math import inf
from pathlib import Path
from typing import Any

from h2q.cli.parameters import Argument, Command, Given, Option, Parameter, defaults, parameters


def read(command: Command, words: Sequence[str]) -> dict[str, Any] | None:
    """The arguments to call a command with, from the words behind its name. Raises what the parser
    of an argument raises, once all else is understood.
    """
    known = parameters(command)
    sorted_out = _sort(known, words)
    if sorted_out is None:
        return None
    texts, values = sorted_out, defaults(command)
    for parameter in known:
        if parameter.kind is Given:
            values[parameter.name] = Given(texts)
    try:
        for late in (False, True):  # a parser may raise: only when no mistake was made before it
            for parameter in known:
                if parameter.name in texts and late == (_parser(parameter) is not None):
                    values[parameter.name] = _value(parameter, texts[parameter.name])
    except ValueError:
        return None
    return values if all(parameter.name in values for parameter in known) else None


def _sort(known: list[Parameter], words: Sequence[str]) -> dict[str, list[str]] | None:
    """Words by the names of the parameters they are for; a bare flag has an empty one."""
    flags = {flag: parameter for parameter in known for flag in parameter.flags}
    found: dict[str, list[str]] = {}
    placed: list[str] = []
    rest = iter(words)
    for word in rest:
        if not word.startswith("-"):
            placed.append(word)
            continue
        flag, joined, value = word.partition("=")
        parameter = flags.get(flag)
        if parameter is None or (parameter.name in found and not parameter.many):
            return None
        if parameter.kind is bool or (joined and not flag.startswith("--")):
            if joined:
                return None
        elif not joined:
            value = next(rest, "-")
            if value.startswith("-"):
                return None
        found.setdefault(parameter.name, []).append(value)
    places = [parameter for parameter in known if isinstance(parameter.said, Argument)]
    for place in places:
        taken = len(placed) if place.many else 1
        if placed:
            found[place.name], placed = placed[:taken], placed[taken:]
    return None if placed else found


def _parser(parameter: Parameter) -> Any:
    return parameter.said.parser if isinstance(parameter.said, Argument) else None


def _value(parameter: Parameter, texts: list[str]) -> Any:
    values = [_one(parameter, text) for text in texts]
    return values if parameter.many else values[0]


def _one(parameter: Parameter, text: str) -> Any:
    """Raises ValueError where Typer may have something to say."""
    if parser := _parser(parameter):
        return parser(text)
    kind, said = parameter.kind, parameter.said
    if kind is bool:
        return True
    if kind is Path:
        if os.path.exists(text) and not os.access(text, os.R_OK):
            raise ValueError(text)
        return Path(text)
    if kind is str:
        return text
    number = kind(text)
    low, high = (said.min, said.max) if isinstance(said, Option) else (None, None)
    if not (-inf if low is None else low) <= number <= (inf if high is None else high):
        raise ValueError(text)
    return number
