"""Modelfiles: how a model is made, in Ollama's language.

Line by line, instructions in any case, `#` comments. A value is the rest of its line without the
spaces around it; in \"quotes\" or \"\"\"three of them\"\"\" it may go over many lines. There are no
escapes: what cannot be said cannot be written.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from h2q.core.errors import UsageError, shown
from h2q.orchestrator.house import Recipe
from h2q.orchestrator.parameters import parse_parameter

MAX_BYTES = 4 << 20
MAX_COMMANDS = 10_000
COMMANDS = (
    "from",
    "license",
    "template",
    "system",
    "adapter",
    "draft",
    "renderer",
    "parser",
    "parameter",
    "message",
    "requires",
)
ROLES = ("system", "user", "assistant")
WORD = re.compile(r"[A-Za-z]+")
PARAMETER = re.compile(r"[A-Za-z0-9_]+")
VERSION = re.compile(r"v?\d+(\.\d+){0,2}([-+][0-9A-Za-z.+-]+)?")
BLANKS = " \t"
# Control characters are dropped, as Ollama does; line ends and tabs stay.
DROPPED = dict.fromkeys([*range(9), 11, 12, *range(14, 32), *range(127, 160)])
NEWLINES = re.compile(r"[\r\n]")


def parse_modelfile(data: bytes | str) -> Recipe:
    """What a Modelfile says. Raises UsageError with the line that is wrong."""
    text = _decoded(data) if isinstance(data, bytes) else data.removeprefix("\ufeff")
    if len(text) > MAX_BYTES:
        raise UsageError(f"The Modelfile exceeds {MAX_BYTES:,} bytes.")
    reader, made = _Reader(text), _Maker()
    while (found := reader.instruction()) is not None:
        made.add(*found, reader.fail)
    return made.recipe()


def write_modelfile(recipe: Recipe, base: str | None = None) -> str:
    """The Modelfile that says what the recipe does; `base` stands after FROM instead of the
    recipe's own. Raises UsageError for a text that Modelfiles cannot hold.
    """
    lines = [f"FROM {_quoted(recipe.base if base is None else base)}"]
    if recipe.template is not None:
        lines.append(f"TEMPLATE {_quoted(recipe.template)}")
    if recipe.system is not None:
        lines.append(f"SYSTEM {_quoted(recipe.system)}")
    for key in ("renderer", "parser", "requires"):
        if key in recipe.options:
            lines.append(f"{key.upper()} {_quoted(recipe.options[key])}")
    for name, value in recipe.parameters:
        for item in value if isinstance(value, (tuple, list)) else (value,):
            told = str(item).lower() if isinstance(item, bool) else str(item)
            lines.append(f"PARAMETER {name} {_quoted(told)}")
    lines += [f"LICENSE {_quoted(text)}" for text in recipe.license]
    lines += [f"MESSAGE {role} {_quoted(text)}" for role, text in recipe.messages]
    return "\n".join(lines) + "\n"


class _Reader:
    """Goes through a text from instruction to instruction."""

    def __init__(self, text: str) -> None:
        self._text, self._at, self._count = text, 0, 0

    def instruction(self) -> tuple[str, str, str] | None:
        """Name, word (of a parameter or message) and value of the next one."""
        text = self._text
        while self._at < len(text):
            if text[self._at] == "#":
                self._at = self._line_end(self._at)
            elif text[self._at] in BLANKS + "\r\n":
                self._at += 1
            else:
                break
        else:
            return None
        self._count += 1
        if self._count > MAX_COMMANDS:
            raise self.fail(f"there are more than {MAX_COMMANDS:,} instructions")
        name = self._word(WORD).lower()
        if name not in COMMANDS:
            raise self.fail(f"command must be one of {', '.join(COMMANDS)}")
        word = ""
        if name == "parameter":
            word = self._word(PARAMETER)
        elif name == "message":
            word = self._word(WORD)
            if word not in ROLES:
                raise self.fail('message role must be one of "system", "user", or "assistant"')
        return name, word, self._value()

    def fail(self, what: str) -> UsageError:
        """An error at the present line."""
        line = len(NEWLINES.findall(self._text.replace("\r\n", "\n"), 0, self._at)) + 1
        return UsageError(f"The Modelfile is wrong: {what}.", where=f"line {line}")

    def _word(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self._text, self._at)
        end = found.end() if found else self._at
        if found is None or end >= len(self._text) or self._text[end] not in BLANKS:
            line = self._text[self._at : self._line_end(self._at)]
            raise self.fail(f"{shown(line)} has no value")
        self._at = end + 1
        return found[0]

    def _value(self) -> str:
        """Up to the first line end at which the quotes are closed."""
        begin = end = self._at
        while True:
            end = self._line_end(end)
            value = _unquoted(self._text[begin:end].translate(DROPPED).strip())
            if value is not None:
                self._at = end
                return value
            if end >= len(self._text):
                raise self.fail("quotes are not closed")
            end += 1

    def _line_end(self, at: int) -> int:
        found = NEWLINES.search(self._text, at)
        return found.start() if found else len(self._text)


class _Maker:
    """Collects instructions."""

    def __init__(self) -> None:
        self._base: str | None = None
        self._template: str | None = None
        self._system: str | None = None
        self._parameters: dict[str, Any] = {}
        self._messages: list[tuple[str, str]] = []
        self._license: list[str] = []
        self._options: dict[str, Any] = {}

    def add(self, name: str, word: str, value: str, fail: Callable[[str], UsageError]) -> None:
        """One instruction; `fail` makes the error about its line."""
        if name == "from":
            if self._base is not None:
                raise fail("this version reads one FROM; it has no projectors")
            self._base = value
        elif name == "adapter":
            raise fail("adapters are not supported; merge it into its base first")
        elif name == "template":
            self._template = value
        elif name == "system":
            self._system = value
        elif name == "license":
            self._license.append(value)
        elif name == "message":
            self._messages.append((word, value))
        elif name == "parameter":
            self._parameter(word, value, fail)
        elif name == "requires" and not VERSION.fullmatch(value):
            raise fail("requires must be a valid semver (e.g. 0.14.0)")
        elif name != "draft":  # a draft model changes speed, never text
            self._options[name] = value

    def recipe(self) -> Recipe:
        """All of it."""
        if not self._base:
            raise UsageError("The Modelfile is wrong: no FROM line.")
        return Recipe(
            base=self._base,
            template=self._template,
            system=self._system,
            parameters=tuple(self._parameters.items()),
            messages=tuple(self._messages),
            license=tuple(self._license),
            options=self._options,
        )

    def _parameter(self, name: str, value: str, fail: Callable[[str], UsageError]) -> None:
        try:
            found = parse_parameter(name, value)
        except UsageError as error:
            raise fail(error.what.rstrip(".")) from error
        if isinstance(found, tuple):
            found = (*self._parameters.get(name, ()), *found)
        if found is not None:
            self._parameters[name] = found


def _decoded(data: bytes) -> str:
    if len(data) > MAX_BYTES:
        raise UsageError(f"The Modelfile exceeds {MAX_BYTES:,} bytes.")
    wide = data.startswith((b"\xff\xfe", b"\xfe\xff"))
    try:
        return data.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError("The Modelfile is not UTF-8 text.") from error


def _unquoted(text: str) -> str | None:
    """Without its quotes; None while they are open."""
    for mark in ('"""', '"'):
        if text.startswith(mark):
            closed = len(text) >= 2 * len(mark) and text.endswith(mark)
            return text[len(mark) : -len(mark)] if closed else None
    return text


def _quoted(text: str) -> str:
    """A value that is read back as it is. Raises UsageError where there is no way to write it."""
    for mark in ("", '"""', '"'):
        written = mark + text + mark
        ends = [found.start() for found in NEWLINES.finditer(written)] + [len(written)]
        values = (_unquoted(written[:end].translate(DROPPED).strip()) for end in ends)
        first = next(((end, v) for end, v in zip(ends, values, strict=True) if v is not None), None)
        if first == (len(written), text):
            return written
    raise UsageError("A text has quotes or control characters that no Modelfile can hold.")
