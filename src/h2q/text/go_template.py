"""Go's templates, in which Ollama writes how a conversation becomes text, carried over to Jinja.

All texts stand as constants in expressions, so that no rule of Jinja about blanks touches them. The
variables of Go live in one namespace, under names that are used once. Ollama gives a template the
conversation in one of two ways, and so does what is made here:

    .Messages    all turns; neighbours of one role are one turn, systems are in .System as well
    .Prompt      else: the template again and again, each time about .System, .Prompt and .Response;
                 what follows .Response is left out of the last
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from h2q.core.errors import TextError
from h2q.text.go_nodes import (
    Branch,
    Call,
    Dot,
    Expression,
    Field,
    Include,
    Jump,
    Node,
    Pipe,
    Show,
    Text,
    Variable,
)
from h2q.text.go_tokens import not_carried, wrong
from h2q.text.go_tree import parse
from h2q.text.go_values import JSON, LISTS, SHOW, Scope, pipe_value, quoted, shown

MOST_LETTERS = 256 << 10  # of the Jinja template
MAX_INCLUDES = 20  # inside one another
GO = re.compile(
    r"\{\{-?\s*(?:(?:if|else|range|with|end|block|template|define|break|continue)\b|/\*|\.|\$"
    r"|(?:not|and|or|eq|ne|json|len|index|slice|print|printf|println)\s+[.$(\"`])"
)
PRELUDE = f"""{{%- macro {JSON}(x) -%}}{{{{ x | tojson(separators=(",", ":")) \
| replace("<", "\\\\u003c") | replace(">", "\\\\u003e") | replace("&", "\\\\u0026") }}}}\
{{%- endmacro -%}}
{{%- macro {SHOW}(x) -%}}{{% if x is string or x is undefined %}}{{{{ x }}}}\
{{% elif x is boolean %}}{{{{ "true" if x else "false" }}}}\
{{% elif x is number %}}{{{{ x }}}}{{% elif x is none %}}{{% else %}}{{{{ {JSON}(x) }}}}\
{{% endif %}}{{%- endmacro -%}}
{{%- set g = namespace(messages=[], systems=[], system="", turns=[], prompt="", response="") -%}}
{{%- for m in messages -%}}
{{%- if m["role"] == "system" -%}}
{{%- set g.systems = g.systems + [m["content"]] -%}}
{{%- endif -%}}
{{%- if g.messages and g.messages[-1]["role"] == m["role"] and m["role"] != "tool" -%}}
{{%- set g.messages = g.messages[:-1] + [dict(g.messages[-1], \
content=g.messages[-1]["content"] ~ "\\n\\n" ~ m["content"])] -%}}
{{%- else -%}}
{{%- set g.messages = g.messages + [m] -%}}
{{%- endif -%}}
{{%- endfor -%}}
"""
SYSTEM = '{%- set g.system = g.systems | join("\\n\\n") -%}\n'
PUSH = (
    "{%- set g.turns = g.turns + [[g.system, g.prompt, g.response]] -%}"
    '{%- set g.system = "" -%}{%- set g.prompt = "" -%}{%- set g.response = "" -%}'
)
TURNS = f"""{{%- for m in g.messages -%}}
{{%- if m["role"] == "system" -%}}
{{%- if g.prompt or g.response -%}}{PUSH}{{%- endif -%}}
{{%- set g.system = m["content"] -%}}
{{%- elif m["role"] == "user" -%}}
{{%- if g.response -%}}{PUSH}{{%- endif -%}}
{{%- set g.prompt = m["content"] -%}}
{{%- elif m["role"] == "assistant" -%}}
{{%- set g.response = m["content"] -%}}
{{%- endif -%}}
{{%- endfor -%}}
"""


def is_go(text: str) -> bool:
    """Whether a chat template is one of Go's, and not Jinja's."""
    return "{%" not in text and GO.search(text) is not None


def go_to_jinja(text: str, begin: str = "") -> str:
    """The Jinja template that writes what Ollama writes with the Go template. begin: a text before
    all, unless the template begins with it: the tokenizer's first token, which Ollama adds by
    itself. Raises TextError for what is no template and for what is not carried over.
    """
    body, defined = parse(text)
    names = set(_fields(body, defined))
    head = PRELUDE
    if begin and not (body and isinstance(body[0], Text) and body[0].text.startswith(begin)):
        head = f"{head}{{{{ {quoted(begin)} }}}}"
    if "Messages" in names:
        return head + SYSTEM + _Writer(defined, {"Response": '""'}).written(body)
    if "Response" not in names:
        body.append(Show(Pipe(Field(Dot(), ("Response",)))))
    turn = {"System": "t[0]", "Prompt": "t[1]", "Response": "t[2]", "Tools": "[]"}
    last = {"System": "g.system", "Prompt": "g.prompt", "Response": "g.response", "Tools": "[]"}
    each = _Writer(defined, turn).written(body)
    rest = _Writer(defined, last, cuts=True).written(body)
    if len(each) + len(rest) > MOST_LETTERS:
        raise _too_long()
    return f"{head}{TURNS}{{%- for t in g.turns -%}}{each}{{%- endfor -%}}{rest}"


class _Writer:
    """Writes nodes as Jinja. cuts: nothing is written after the first .Response."""

    def __init__(
        self, defined: dict[str, list[Node]], root: dict[str, str], cuts: bool = False
    ) -> None:
        self._defined, self._root, self._cuts = defined, root, cuts
        self._out: list[str] = []
        self._size = self._number = 0
        self._cut = False

    def written(self, body: list[Node]) -> str:
        self._nodes(body, Scope(None, {}, self._root), 0)
        return "".join(self._out)

    def _put(self, piece: str) -> None:
        self._size += len(piece)
        if self._size > MOST_LETTERS:
            raise _too_long()
        self._out.append(piece)

    def _fresh(self, name: str) -> str:
        self._number += 1
        return f"g.{name}{self._number}"

    def _nodes(self, nodes: list[Node], scope: Scope, depth: int) -> None:
        for node in nodes:
            if self._cut:
                return
            if isinstance(node, Text):
                self._put(f"{{{{ {quoted(node.text)} }}}}")
            elif isinstance(node, Show):
                self._show(node.pipe, scope)
            elif isinstance(node, Branch):
                self._branch(node, scope, depth)
            elif isinstance(node, Jump):
                self._put(f"{{%- {node.kind} -%}}")
            else:
                self._include(node, scope, depth)

    def _show(self, pipe: Pipe, scope: Scope) -> None:
        value = pipe_value(pipe, scope)
        if pipe.names:
            self._assign(pipe, scope, value.code)
            return
        self._put(f"{{{{ {shown(value)} }}}}")
        self._cut = self._cuts and "Response" in _names(pipe.value)

    def _assign(self, pipe: Pipe, scope: Scope, code: str) -> None:
        if len(pipe.names) > 1:
            wrong("two variables outside of a range", pipe.line)
        name = pipe.names[0]
        if pipe.declares:
            scope.variables[name] = self._fresh("v")
        elif name not in scope.variables:
            wrong(f"undefined variable ${name[:40]}", pipe.line)
        self._put(f"{{%- set {scope.variables[name]} = {code} -%}}")

    def _branch(self, node: Branch, scope: Scope, depth: int) -> None:
        if node.kind == "range":
            self._range(node, scope, depth)
            return
        inner = scope.inner(scope.dot)
        code = pipe_value(node.pipe, scope).code
        if node.pipe.names:
            self._assign(node.pipe, inner, code)
            code = inner.variables[node.pipe.names[0]]
        about = inner
        if node.kind == "with":
            held = self._fresh("w")
            self._put(f"{{%- set {held} = {code} -%}}")
            code, about = held, inner.inner(held)
        self._put(f"{{%- if {code} -%}}")
        self._nodes(node.body, about.inner(about.dot), depth)
        if node.otherwise and not self._cut:
            self._put("{%- else -%}")
            self._nodes(node.otherwise, inner, depth)
        self._put("{%- endif -%}")

    def _range(self, node: Branch, scope: Scope, depth: int) -> None:
        """Over a list, or over a mapping in the order of its keys."""
        pipe = node.pipe
        code, over, each = pipe_value(pipe, scope).code, self._fresh("r"), self._fresh("e")
        self._put(f"{{%- set {over} = {code} -%}}")
        item, number = f"x{self._number}", self._number
        keys = f"(({over} | dictsort(true)) if {over} is mapping else ({over} or []))"
        self._put(f"{{%- for {item} in {keys} -%}}")
        pair = f"{over} is mapping"
        if _is_list(pipe.value):
            key, found = "loop.index0", item
        else:
            key, found = (
                f"({item}[0] if {pair} else loop.index0)",
                f"({item}[1] if {pair} else {item})",
            )
        self._put(f"{{%- set {each} = {found} -%}}")
        inner = scope.inner(each)
        for name, value in zip(reversed(pipe.names), (each, key), strict=False):
            slot = f"g.k{number}" if value == key else each
            if pipe.declares:
                inner.variables[name] = slot
            else:
                slot = scope.variables.get(name) or wrong(f"undefined variable ${name}", pipe.line)
            if slot != value:
                self._put(f"{{%- set {slot} = {value} -%}}")
        self._nodes(node.body, inner, depth)
        if node.otherwise and not self._cut:
            self._put("{%- else -%}")
            self._nodes(node.otherwise, scope.inner(scope.dot), depth)
        self._put("{%- endfor -%}")

    def _include(self, node: Include, scope: Scope, depth: int) -> None:
        if node.name not in self._defined:
            wrong(f"there is no template {node.name[:40]!r}", node.line)
        if depth >= MAX_INCLUDES:
            not_carried("templates that include each other", node.line)
        if node.pipe is None:
            about = Scope(NOTHING_AT_ALL, {}, {})
        elif (isinstance(node.pipe.value, Dot) and scope.dot is None) or _is_root(node.pipe.value):
            about = Scope(None, {}, self._root)
        else:
            held = self._fresh("w")
            self._put(f"{{%- set {held} = {pipe_value(node.pipe, scope).code} -%}}")
            about = Scope(held, {}, self._root)
        self._nodes(self._defined[node.name], about, depth + 1)


NOTHING_AT_ALL = "{}"


def _is_root(value: Expression) -> bool:
    return isinstance(value, Variable) and not value.name


def _is_list(value: Expression) -> bool:
    """Whether it is a list for certain, so that the code can be short."""
    if not isinstance(value, Field):
        return isinstance(value, Call) and value.name == "slice"
    from h2q.text.go_values import FIELDS

    return value.names[-1] in ("Messages", "Tools") or FIELDS.get(value.names[-1]) in LISTS


def _names(value: Expression) -> Iterator[str]:
    """Names of fields in an expression."""
    if isinstance(value, Field):
        yield from value.names
        yield from _names(value.of)
    elif isinstance(value, Call):
        for one in value.arguments:
            yield from _names(one)


def _fields(nodes: list[Node], defined: dict[str, list[Node]]) -> Iterator[str]:
    """Names of fields anywhere in a template."""
    for body in (nodes, *defined.values()):
        todo = list(body)
        while todo:
            node = todo.pop()
            pipe = None if isinstance(node, (Text, Jump)) else node.pipe
            if pipe is not None:
                yield from _names(pipe.value)
            if isinstance(node, Branch):
                todo += node.body + node.otherwise


def _too_long() -> TextError:
    return TextError(
        f"The template has more than {MOST_LETTERS:,} characters as Jinja.",
        where="template",
        fix="Give a Jinja template instead.",
    )
