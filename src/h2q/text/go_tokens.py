"""The words of a Go template: text between actions, and what stands inside `{{` and `}}`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NoReturn

from h2q.core.errors import TextError, shown

MAX_LETTERS = 256 << 10
MAX_TOKENS = 50_000
BLANK = " \t\r\n"
OPENING = re.compile(r"\{\{(?:-(?=[ \t\r\n]))?")
CLOSING = re.compile(r"(?:[ \t\r\n]+-)?\}\}")
COMMENT = re.compile(r"[ \t\r\n]*/\*.*?\*/", re.DOTALL)
TOKEN = re.compile(
    r"""(?P<space>[ \t\r\n]+)
      | (?P<string>"(?:[^"\\\n]|\\.)*" | `[^`]*`)
      | (?P<char>'(?:[^'\\\n]|\\[^\n])+')
      | (?P<number>[+-]?(?:0[xX][0-9a-fA-F]+ | \d+(?:\.\d+)?(?:[eE][+-]?\d+)?)(?![\w.]))
      | (?P<field>\.[^\W\d]\w*)
      | (?P<variable>\$(?:[^\W\d]\w*)?)
      | (?P<word>[^\W\d]\w*)
      | (?P<mark>:= | [.()|,=])""",
    re.VERBOSE,
)
ESCAPES = {
    "n": "\n",
    "t": "\t",
    "r": "\r",
    "a": "\a",
    "b": "\b",
    "f": "\f",
    "v": "\v",
    "\\": "\\",
    '"': '"',
    "'": "'",
}
ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{3})|(.))")


@dataclass(frozen=True)
class Token:
    """kind: text (between actions), open and close of an action, string, number, field, variable,
    word, mark; `after`: no space stands before it. `line` counts from 1.
    """

    kind: str
    text: str
    line: int
    after: bool = False


def wrong(what: str, line: int) -> NoReturn:
    """Raises TextError about a line."""
    raise TextError(
        f"The Go template cannot be read: {what}.",
        where=f"template, line {line}",
        fix="Correct it, or give a Jinja template.",
    )


def not_carried(what: str, line: int) -> NoReturn:
    """Raises TextError for what is sound in Go and has no counterpart here."""
    raise TextError(
        f"The Go template uses {what}, which is not carried over.",
        where=f"template, line {line}",
        fix="Give a Jinja template instead.",
    )


def tokens(text: str) -> Iterator[Token]:
    """All of a template; trim marks are applied, comments are gone. Raises TextError."""
    if len(text) > MAX_LETTERS:
        raise TextError(f"The template has more than {MAX_LETTERS:,} characters.", where="template")
    at, line, trim, count = 0, 1, False, 0
    while True:
        found = OPENING.search(text, at)
        end = len(text) if found is None else found.start()
        piece = text[at:end]
        shown_piece = piece.lstrip(BLANK) if trim else piece
        if found is not None and found[0].endswith("-"):
            shown_piece = shown_piece.rstrip(BLANK)
        if shown_piece:
            yield Token("text", shown_piece, line)
        line += piece.count("\n")
        if found is None:
            return
        at = found.end()
        comment = COMMENT.match(text, at)
        if comment is not None:
            line += comment[0].count("\n")
            at = comment.end()
            close = CLOSING.match(text, at)
            if close is None:
                wrong("a comment must fill its action", line)
        else:
            yield Token("open", "{{", line)
            after = True
            while (close := CLOSING.match(text, at)) is None:
                word = TOKEN.match(text, at)
                if word is None:
                    what = "an action is not closed" if at >= len(text) else None
                    wrong(what or f"unexpected {shown(text[at : at + 12])}", line)
                count += 1
                if count > MAX_TOKENS:
                    wrong(f"there are more than {MAX_TOKENS:,} words in it", line)
                kind = word.lastgroup or ""
                if kind != "space":
                    yield Token(kind, word[0], line, after)
                after = kind != "space"
                line += word[0].count("\n")
                at = word.end()
            yield Token("close", "}}", line)
        trim = close[0] != "}}"
        line += close[0].count("\n")
        at = close.end()


def unquoted(token: Token) -> str:
    """The text of a string or character constant. Raises TextError."""
    body = token.text[1:-1]
    if token.text[0] == "`":
        return body

    def plain(match: re.Match[str]) -> str:
        code = match[1] or match[2] or match[3]
        if code:
            number = int(code, 16)
        elif match[4]:
            number = int(match[4], 8)
        elif match[5] in ESCAPES:
            return ESCAPES[match[5]]
        else:
            wrong(f"unknown escape {shown(match[0])}", token.line)
        if number > 0x10FFFF or 0xD800 <= number < 0xE000:
            wrong(f"unknown escape {shown(match[0])}", token.line)
        return chr(number)

    return ESCAPE.sub(plain, body)
