"""What Go templates are made of, as far as chat templates use it."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Constant:
    """A string, number, true, false, or nil (None)."""

    value: str | int | float | bool | None


@dataclass(frozen=True)
class Dot:
    """What the block is about."""


@dataclass(frozen=True)
class Variable:
    """`$name`; an empty name is the root."""

    name: str


@dataclass(frozen=True)
class Field:
    """`.A.B` of something."""

    of: Expression
    names: tuple[str, ...]


@dataclass(frozen=True)
class Call:
    """A function and its arguments."""

    name: str
    arguments: tuple[Expression, ...]
    line: int


Expression = Constant | Dot | Variable | Field | Call


@dataclass(frozen=True)
class Pipe:
    """What an action works out. `names`: variables it sets; `declares`: they are new."""

    value: Expression
    names: tuple[str, ...] = ()
    declares: bool = True
    line: int = 0


@dataclass
class Text:
    text: str


@dataclass
class Show:
    """An action that is shown, or only sets variables."""

    pipe: Pipe


@dataclass
class Branch:
    """`kind`: if, range or with."""

    kind: str
    pipe: Pipe
    body: list[Node]
    otherwise: list[Node] = field(default_factory=list)


@dataclass
class Include:
    """The template of that name, about the value of a pipe."""

    name: str
    pipe: Pipe | None
    line: int


@dataclass
class Jump:
    """`break` or `continue`."""

    kind: str


Node = Text | Show | Branch | Include | Jump
