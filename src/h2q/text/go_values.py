"""Expressions of Go templates as expressions of Jinja."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from h2q.core.errors import TextError
from h2q.text.go_nodes import Call, Constant, Dot, Expression, Field, Pipe, Variable
from h2q.text.go_tokens import not_carried, wrong

# Fields of Ollama's messages, calls and tools, as our conversations have them.
FIELDS = {
    "Role": "role",
    "Content": "content",
    "Thinking": "thinking",
    "ToolCalls": "tool_calls",
    "ToolName": "name",
    "ToolCallID": "tool_call_id",
    "Images": "images",
    "Type": "type",
    "Function": "function",
    "ID": "id",
    "Index": "index",
    "Name": "name",
    "Arguments": "arguments",
    "Description": "description",
    "Parameters": "parameters",
    "Properties": "properties",
    "Required": "required",
    "Enum": "enum",
    "Items": "items",
}
TEXTS = frozenset(("role", "content", "thinking", "name", "tool_call_id", "id", "description"))
LISTS = frozenset(("tool_calls", "images", "required", "enum"))
NOTHING = '""'
ROOT = {
    "Messages": "g.messages",
    "System": "g.system",
    "Tools": "(tools or [])",
    "Think": "((enable_thinking | default(false)) == true)",
    "IsThinkSet": "(enable_thinking is defined)",
    "ThinkLevel": '(reasoning_effort | default(""))',
}
SHOWN_ROOT = frozenset(("System", "Prompt", "Response", "Suffix", "ThinkLevel"))
COMPARE = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}
SHOW = "h2q_show"  # a macro that writes a value as Go does
JSON = "h2q_json"


def quoted(text: str) -> str:
    """A text as a constant of Jinja."""
    return (
        '"' + "".join(ESCAPES.get(c) or (c if c >= " " else f"\\x{ord(c):02x}") for c in text) + '"'
    )


@dataclass(frozen=True)
class Value:
    """An expression; `text`: it is a string for certain, and shown as it is."""

    code: str
    text: bool = False


@dataclass
class Scope:
    """What names mean at one place. dot: an expression, None for the root. `variables`: by name
    their expressions; `root`: what the root's fields are.
    """

    dot: str | None
    variables: dict[str, str] = field(default_factory=dict)
    root: dict[str, str] = field(default_factory=dict)

    def inner(self, dot: str | None) -> Scope:
        return Scope(dot, dict(self.variables), self.root)


def value_of(node: Expression, scope: Scope) -> Value:
    """Raises TextError for what is not carried over."""
    if isinstance(node, Constant):
        return _constant(node)
    if isinstance(node, Dot):
        return Value(_root_alone(0) if scope.dot is None else scope.dot)
    if isinstance(node, Variable):
        if not node.name:
            return Value(_root_alone(0))
        if node.name not in scope.variables:
            wrong(f"undefined variable ${node.name[:40]}", 0)
        return Value(scope.variables[node.name])
    if isinstance(node, Field):
        return _field(node, scope)
    return _call(node, scope)


def pipe_value(pipe: Pipe, scope: Scope) -> Value:
    """The same for an action; errors say its line."""
    try:
        return value_of(pipe.value, scope)
    except TextError as error:
        raise error.at(f"template, line {pipe.line}") from error


def _constant(node: Constant) -> Value:
    value = node.value
    if isinstance(value, str):
        return Value(quoted(value), True)
    if value is None:
        return Value("none")
    if isinstance(value, bool):
        return Value(str(value).lower())
    return Value(repr(value) if value >= 0 else f"({value!r})")


def _field(node: Field, scope: Scope) -> Value:
    names = list(node.names)
    at_root = isinstance(node.of, Variable) and not node.of.name
    if at_root or (isinstance(node.of, Dot) and scope.dot is None):
        first = names.pop(0)
        code, text = scope.root.get(first) or ROOT.get(first, NOTHING), first in SHOWN_ROOT
    else:
        code, text = value_of(node.of, scope).code, False
    for name in names:
        if name == "ToTypeScriptType":
            not_carried("ToTypeScriptType", 0)
        key = FIELDS.get(name, name)
        code, text = f"{code}[{quoted(key)}]", key in TEXTS
    return Value(code, text)


def _call(node: Call, scope: Scope) -> Value:
    maker = FUNCTIONS.get(node.name)
    if maker is None:
        not_carried(f"the function {node.name[:40]}", node.line)
    least, most, make = maker
    if not least <= len(node.arguments) <= most:
        wrong(f"{node.name} has {len(node.arguments)} arguments", node.line)
    if node.name == "printf":
        return _printf(node, scope)
    return make([value_of(one, scope) for one in node.arguments])


Maker = Callable[[Sequence[Value]], Value]


def _joined(word: str) -> Maker:
    def make(values: Sequence[Value]) -> Value:
        code = f" {word} ".join(value.code for value in values)
        return Value(f"({code})", all(value.text for value in values))

    return make


def _compared(mark: str) -> Maker:
    def make(values: Sequence[Value]) -> Value:
        first, *others = (value.code for value in values)
        return Value("(" + " or ".join(f"{first} {mark} {other}" for other in others) + ")")

    return make


def _indexed(values: Sequence[Value]) -> Value:
    first, *others = (value.code for value in values)
    return Value(first + "".join(f"[{other}]" for other in others))


def _sliced(values: Sequence[Value]) -> Value:
    first, *bounds = (value.code for value in values)
    if not bounds:
        return Value(first)
    return Value(f"{first}[{bounds[0]}:{bounds[1] if len(bounds) > 1 else ''}]")


def shown(value: Value) -> str:
    """The expression of how Go writes a value."""
    return value.code if value.text else f"{SHOW}({value.code})"


def _print(values: Sequence[Value]) -> Value:
    """One after the other; a space between two that are no texts."""
    parts = [shown(values[0])]
    for before, value in pairwise(values):
        if not before.text and not value.text:
            parts.append(f'("" if {before.code} is string or {value.code} is string else " ")')
        parts.append(shown(value))
    return Value("(" + " ~ ".join(parts) + ")", True)


def _println(values: Sequence[Value]) -> Value:
    parts = map(shown, values)
    return Value("(" + ' ~ " " ~ '.join(parts) + f" ~ {quoted(chr(10))})", True)


def _printf(node: Call, scope: Scope) -> Value:
    form, *rest = node.arguments
    if not isinstance(form, Constant) or not isinstance(form.value, str):
        not_carried("printf with a form that is worked out", node.line)
    left, parts, at = list(rest), list[str](), 0
    text = form.value
    while (mark := text.find("%", at)) >= 0:
        parts.append(quoted(text[at:mark]))
        verb = text[mark + 1 : mark + 2]
        if verb == "%":
            parts.append(quoted("%"))
        elif verb in ("s", "v", "d") and left:
            parts.append(shown(value_of(left.pop(0), scope)))
        elif verb == "q" and left:
            parts.append(f"{JSON}({value_of(left.pop(0), scope).code})")
        else:
            not_carried(f"printf with %{verb}", node.line)
        at = mark + 2
    if left:
        wrong("printf has more arguments than its form", node.line)
    parts.append(quoted(text[at:]))
    return Value("(" + " ~ ".join(parts) + ")", True)


def _root_alone(line: int) -> str:
    return not_carried("the whole data at once", line)


FUNCTIONS: dict[str, tuple[int, int, Maker]] = {
    "and": (1, 100, _joined("and")),
    "or": (1, 100, _joined("or")),
    "not": (1, 1, lambda values: Value(f"(not {values[0].code})")),
    "len": (1, 1, lambda values: Value(f"({values[0].code} | length)")),
    "index": (1, 10, _indexed),
    "slice": (1, 3, _sliced),
    "print": (1, 100, _print),
    "println": (1, 100, _println),
    "printf": (1, 100, _print),
    "json": (1, 1, lambda values: Value(f"{JSON}({values[0].code})", True)),
    "currentDate": (0, 0, lambda _: Value('strftime_now("%Y-%m-%d")', True)),
    **{name: (2, 100 if name == "eq" else 2, _compared(mark)) for name, mark in COMPARE.items()},
}
