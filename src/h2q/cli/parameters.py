"""What a command takes from its command line, said once beside each parameter of its function.

Two readers follow it: `quick`, which knows the plain cases and nothing heavy, and `typer_app`,
which knows all of them, help and errors too.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

Command = Callable[..., None]


class Given(frozenset[str]):
    """A command's parameter of this type is told which of its others stand on the command line."""


class Argument:
    """A place on the command line. `parser` makes its value of the text; it may raise ValueError
    for one that is none, and any error of ours.
    """

    def __init__(
        self, help: str = "", metavar: str | None = None, parser: Callable[[str], Any] | None = None
    ) -> None:
        self.help, self.metavar, self.parser = help, metavar, parser


class Option:
    """An option with a value; `flags` as they are written, `--` and the parameter's name unless
    given. A bool's flag, which has no value, must be given. Numbers from `min` to `max`.
    """

    def __init__(
        self,
        *flags: str,
        help: str = "",
        metavar: str | None = None,
        min: float | None = None,
        max: float | None = None,
    ) -> None:
        self.flags, self.help, self.metavar = flags, help, metavar
        self.min, self.max = min, max


class Parameter:
    """One parameter of a command. `kind`: bool, int, float, str, Path or Given, of each value where
    there may be `many`. `hint`: its whole type, without what was said beside it.
    """

    def __init__(self, name: str, hint: Any) -> None:
        self.name = name
        self.said: Argument | Option | None = None
        while True:  # in Python 3.10 a default of None may put one more `| None` around
            if hasattr(hint, "__metadata__"):
                self.said, hint = hint.__metadata__[0], hint.__origin__
            elif get_origin(hint) in (Union, UnionType) and hasattr(
                get_args(hint)[0], "__metadata__"
            ):
                hint = get_args(hint)[0]
            else:
                break
        self.hint = hint
        if get_origin(hint) in (Union, UnionType):
            hint = get_args(hint)[0]
        self.many = get_origin(hint) is list
        self.kind: type = get_args(hint)[0] if self.many else hint

    @property
    def flags(self) -> tuple[str, ...]:
        """As they are written; none of an argument."""
        if not isinstance(self.said, Option):
            return ()
        return self.said.flags or (f"--{self.name.replace('_', '-')}",)


def parameters(command: Command) -> list[Parameter]:
    """In the order of the function's own."""
    hints = get_type_hints(command, sys.modules[command.__module__].__dict__, include_extras=True)
    return [Parameter(name, hint) for name, hint in hints.items() if name != "return"]


def defaults(command: Command) -> dict[str, Any]:
    """Of those parameters that have one."""
    code, values = command.__code__, command.__defaults__ or ()
    names = code.co_varnames[: code.co_argcount]
    return dict(zip(names[len(names) - len(values) :], values, strict=True))
