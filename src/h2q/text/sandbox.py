"""A Jinja environment for templates that nobody vouches for: every step counted, no value large.

Jinja compiles a template to Python. Three bounds together hold its time and memory:

- steps: while it renders, a trace function counts each line of Python that runs, the template's
  and that of every filter, and ends it after MAX_STEPS. No clock, no thread, no signal: the same
  template ends at the same step everywhere.
- size: a line of Python may do much in one operation of C, so each that can make something large
  out of something small (`*`, `**`, `%`, `+`, `~`, `join`, `replace`, padding, indentation) is
  checked before it is done, and each container is weighed with all that it contains, however often
  the same list is inside itself.
- reach: the immutable sandbox of Jinja, and of filters, methods and globals only those listed
  here. A string's `format` is not among them: a width is a bomb and an attribute an escape.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from jinja2 import nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment

from h2q.text import bounds
from h2q.text.allowed import CHEAP, FILTERS, METHODS
from h2q.text.bounds import (
    MAX_BITS,
    MAX_WEIGHT,
    Steps,
    Weights,
    bounded,
    indented,
    joined,
    replaced,
    short_range,
    text_size,
    to_json,
    too_much,
)

MAX_STEPS = 1_000_000  # lines of Python; a long conversation takes some ten thousand
CHARGED = "charged"  # a filter that gives back what it was given
OWN = frozenset((__file__, bounds.__file__))  # they charge for what they do themselves


class Generation(Extension):
    """`{% generation %}`, with which training code marks answers; here its body is just shown."""

    tags = {"generation"}  # noqa: RUF012 - Jinja's own form

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class Code(CodeGenerator):
    """Sends what Python would do by itself through the environment."""

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:  # noqa: N802
        self.write("environment.concatenated((")
        for each in node.nodes:
            self.visit(each, frame)
            self.write(", ")
        self.write("))")

    def visit_List(self, node: nodes.List, frame: Frame) -> None:  # noqa: N802
        self._weighed(super().visit_List, node, frame)

    def visit_Dict(self, node: nodes.Dict, frame: Frame) -> None:  # noqa: N802
        self._weighed(super().visit_Dict, node, frame)

    def visit_Tuple(self, node: nodes.Tuple, frame: Frame) -> None:  # noqa: N802
        if node.ctx == "load":
            self._weighed(super().visit_Tuple, node, frame)
        else:
            super().visit_Tuple(node, frame)

    def visit_Filter(self, node: nodes.Filter, frame: Frame) -> None:  # noqa: N802
        self._weighed(super().visit_Filter, node, frame)

    def _weighed(self, visit: Callable[[Any, Frame], None], node: nodes.Node, frame: Frame) -> None:
        self.write("environment.weighed(")
        visit(node, frame)
        self.write(")")


class Sandbox(ImmutableSandboxedEnvironment):
    """One per rendering: it keeps what was weighed."""

    code_generator_class = Code
    intercepted_binops = frozenset(("+", "*", "**", "%"))

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            optimized=False,  # constants are folded at rendering, where steps are counted
            cache_size=0,
            extensions=[Generation, loopcontrols],
        )
        self.steps = Steps(MAX_STEPS)
        self.weights = Weights()
        self.filters = {name: self.filters[name] for name in sorted(FILTERS)}
        self.filters |= {"join": self._join, "replace": replaced, "tojson": to_json}
        self.filters |= {"indent": indented, CHARGED: self.charged}
        for name in ("cycler", "joiner", "lipsum"):
            del self.globals[name]
        self.globals["range"] = short_range

    def weighed(self, value: Any) -> Any:
        """The same value, found to be of bearable size and paid for. Lazy results become lists."""
        if isinstance(value, Iterator) and not isinstance(value, LoopContext):
            value = list(bounded(value))
        return self.charged(value)

    def charged(self, value: Any) -> Any:
        """The same value; one operation on it costs as many steps as it is large."""
        self.steps.spend(self.weights.of(value) // 8)
        return value

    def concatenated(self, parts: Iterable[Any]) -> str:
        return self.concat(map(str, map(self.weighed, parts)))

    def concat(self, parts: Iterable[str]) -> str:
        """Joins what a template writes; used for its output, its macros and its blocks."""
        return str(self.charged(joined(parts)))

    def wrap_str_format(self, value: Any) -> None:
        """None: `format` stays a method like any other, and is not among those allowed."""

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        """Puts a charge on whatever goes into one operation of C."""
        tree = super()._parse(source, name, filename)
        for used in list(tree.find_all((nodes.Filter, nodes.Test))):
            if used.node is not None and used.name not in CHEAP:
                used.node = _charge(used.node)
            used.args = [_charge(each) for each in used.args]
        for compared in list(tree.find_all(nodes.Compare)):
            compared.expr = _charge(compared.expr)
            for operand in compared.ops:
                operand.expr = _charge(operand.expr)
        for part in list(tree.find_all(nodes.Getitem)):
            if isinstance(part.arg, nodes.Slice):
                part.node = _charge(part.node)
        for shown in list(tree.find_all(nodes.Output)):
            shown.nodes = [
                each if isinstance(each, nodes.TemplateData) else _charge(each)
                for each in shown.nodes
            ]
        return tree

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        self.charged(left), self.charged(right)
        texts = [each for each in (left, right) if isinstance(each, str)]
        if operator == "%" and texts:
            raise SecurityError("a text is formatted by %")
        if operator == "**":
            bits = left.bit_length() if isinstance(left, int) else 1
            if not isinstance(right, (int, float)) or abs(right) * bits > MAX_BITS:
                raise too_much("a number")
        if operator == "*":
            for value, times in ((left, right), (right, left)):
                sized = isinstance(value, (str, list, tuple))
                if sized and isinstance(times, int) and times * self.weights.of(value) > MAX_WEIGHT:
                    raise too_much("a repetition")
        if operator == "+" and len(texts) == 2:
            text_size(left), text_size(right)
        return self.weighed(super().call_binop(context, operator, left, right))

    def call(self, context: Any, function: Any, /, *arguments: Any, **named: Any) -> Any:
        owner = getattr(function, "__self__", None)
        for each in (owner, *arguments, *named.values()):
            self.charged(each)
        name = getattr(function, "__name__", "")
        if isinstance(owner, str) and name == "join":
            return self._join(arguments[0] if arguments else (), owner)
        if isinstance(owner, str) and name == "replace":
            return replaced(owner, *arguments, **named)
        return self.weighed(super().call(context, function, *arguments, **named))

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        if not super().is_safe_attribute(obj, attr, value):
            return False
        if not callable(value):
            return True
        for kind, names in METHODS:
            if isinstance(obj, kind):
                return attr in names
        return not isinstance(obj, (int, float, bytes, bytearray))

    def _join(self, value: Iterable[Any], d: str = "", attribute: str | None = None) -> str:
        parts = list(bounded(value))
        if attribute is not None:
            parts = [self.getitem(part, attribute) for part in parts]
        return joined(map(str, map(self.weighed, parts)), str(d))


def _charge(node: nodes.Expr) -> nodes.Expr:
    return nodes.Filter(node, CHARGED, [], [], None, None, lineno=node.lineno)
