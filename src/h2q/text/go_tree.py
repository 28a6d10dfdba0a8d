"""From the text of a Go template to its tree: the subset that chat templates are written in."""

from __future__ import annotations

from collections.abc import Iterator

from h2q.text.go_nodes import (
    Branch,
    Call,
    Constant,
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
from h2q.text.go_tokens import Token, not_carried, tokens, unquoted, wrong

MAX_DEPTH = 60  # of blocks and parentheses inside one another
MAX_NAMES = 30  # of fields of fields
KEYWORDS = frozenset(("if", "else", "end", "range", "with", "define", "block", "template"))
LOOPS = frozenset(("break", "continue"))


def parse(text: str) -> tuple[list[Node], dict[str, list[Node]]]:
    """The template, and those it defines by name. Raises TextError."""
    parser = _Parser(text)
    body, _ = parser.nodes(0, ())
    return body, parser.defined


class _Parser:
    def __init__(self, text: str) -> None:
        self._tokens: Iterator[Token] = tokens(text)
        self._now = next(self._tokens, None)
        self._line = 1
        self._loops = 0
        self.defined: dict[str, list[Node]] = {}

    def nodes(self, depth: int, ends: tuple[str, ...]) -> tuple[list[Node], str]:
        """Up to one of the words that end a block, which is taken, and its word."""
        if depth > MAX_DEPTH:
            wrong("blocks nest too deeply", self._line)
        found: list[Node] = []
        while (token := self._now) is not None:
            self._take()
            if token.kind == "text":
                found.append(Text(token.text))
                continue
            word = self._now
            if word is None or word.kind == "close":
                wrong("an action is empty", token.line)
            if word.kind == "word" and word.text in ends:
                self._take()
                return found, word.text
            node = self._action(word, depth)
            if node is not None:
                found.append(node)
        if ends:
            wrong("a block has no {{ end }}", self._line)
        return found, ""

    def _action(self, word: Token, depth: int) -> Node | None:
        if word.kind != "word" or word.text not in KEYWORDS | LOOPS:
            pipe = self._pipe(0)
            self._close()
            return Show(pipe)
        self._take()
        if word.text in LOOPS:
            if not self._loops:
                wrong(f"{{{{ {word.text} }}}} outside of a range", word.line)
            self._close()
            return Jump(word.text)
        if word.text in ("if", "range", "with"):
            return self._branch(word.text, depth)
        if word.text == "template":
            name = self._string()
            about = None if self._closing() else self._pipe(0)
            self._close()
            return Include(name, about, word.line)
        if word.text in ("define", "block"):
            name = self._string()
            about = self._pipe(0) if word.text == "block" else None
            self._close()
            loops, self._loops = self._loops, 0
            self.defined[name], _ = self.nodes(depth + 1, ("end",))
            self._loops = loops
            self._close()
            return Include(name, about, word.line) if about is not None else None
        return wrong(f"unexpected {{{{ {word.text} }}}}", word.line)

    def _branch(self, kind: str, depth: int) -> Branch:
        pipe = self._pipe(0)
        self._close()
        self._loops += kind == "range"
        body, ended = self.nodes(depth + 1, ("end", "else"))
        self._loops -= kind == "range"
        branch = Branch(kind, pipe, body)
        if ended == "else":
            token = self._now
            if token is not None and token.kind == "word" and token.text in ("if", "with"):
                self._take()
                branch.otherwise = [self._branch(token.text, depth + 1)]
                return branch
            self._close()
            branch.otherwise, _ = self.nodes(depth + 1, ("end",))
        self._close()
        return branch

    def _pipe(self, depth: int) -> Pipe:
        """Up to a closing mark, which is left."""
        if depth > MAX_DEPTH:
            wrong("parentheses nest too deeply", self._line)
        line = self._line
        names, declares = self._variables()
        value: Expression | None = None
        while True:
            value = self._command(value, depth)
            if not self._is("mark", "|"):
                return Pipe(value, names, declares, line)
            self._take()

    def _variables(self) -> tuple[tuple[str, ...], bool]:
        """`$a, $b :=` or `$a =`, if that is how it begins."""
        first = self._now
        if first is None or first.kind != "variable" or len(first.text) < 2:
            return (), True
        self._take()
        names = [first.text[1:]]
        if self._is("mark", ","):
            self._take()
            second = self._take()
            if second is None or second.kind != "variable":
                wrong("a variable is missing", self._line)
            names.append(second.text[1:])
        if self._is("mark", ":=") or self._is("mark", "="):
            mark = self._take()
            return tuple(names), mark is not None and mark.text == ":="
        if len(names) > 1:
            wrong("a := is missing", self._line)
        self._held: Token | None = first
        return (), True

    _held: Token | None = None

    def _command(self, piped: Expression | None, depth: int) -> Expression:
        """A function with its arguments, or one operand; what was piped comes last."""
        token = self._held or self._now
        if token is None:
            wrong("an action is not closed", self._line)
        if token.kind == "word" and token.text not in ("true", "false", "nil"):
            self._take()
            arguments = []
            while not self._closing() and not self._is("mark", "|"):
                arguments.append(self._operand(depth))
            arguments += [] if piped is None else [piped]
            return Call(token.text, tuple(arguments), token.line)
        operand = self._operand(depth)
        if not self._closing() and not self._is("mark", "|"):
            wrong("an operand is followed by something that is no pipe", token.line)
        if piped is not None:
            not_carried("a pipe into a value", token.line)
        return operand

    def _operand(self, depth: int) -> Expression:
        token, self._held = self._held or self._take(), None
        if token is None or token.kind == "close":
            wrong("an operand is missing", self._line)
        found: Expression
        if token.kind == "string":
            return Constant(unquoted(token))
        if token.kind == "char":
            letter = unquoted(token)
            if len(letter) != 1:
                wrong("a character is none", token.line)
            return Constant(ord(letter))
        if token.kind == "number":
            return Constant(_number(token))
        if token.kind == "word" and token.text in ("true", "false", "nil"):
            return Constant({"true": True, "false": False, "nil": None}[token.text])
        if token.kind == "word":
            return Call(token.text, (), token.line)
        if token.kind == "variable":
            found = Variable(token.text[1:])
        elif token.kind == "field":
            found = Field(Dot(), (token.text[1:],))
        elif (token.kind, token.text) == ("mark", "."):
            return Dot()
        elif (token.kind, token.text) == ("mark", "("):
            found = self._pipe(depth + 1).value
            if not self._is("mark", ")"):
                wrong("a parenthesis is not closed", token.line)
            self._take()
        else:
            return wrong(f"unexpected {token.text}", token.line)
        while (part := self._now) is not None and part.kind == "field" and part.after:
            self._take()
            names = found.names if isinstance(found, Field) else ()
            base = found.of if isinstance(found, Field) else found
            if len(names) >= MAX_NAMES:
                wrong("a chain of fields is too long", part.line)
            found = Field(base, (*names, part.text[1:]))
        return found

    def _string(self) -> str:
        token = self._take()
        if token is None or token.kind != "string":
            wrong("a name in quotes is missing", self._line)
        return unquoted(token)

    def _closing(self) -> bool:
        return self._now is None or self._now.kind == "close" or self._is("mark", ")")

    def _close(self) -> None:
        token = self._take()
        if token is None or token.kind != "close":
            wrong("an action is not closed", self._line)

    def _is(self, kind: str, text: str) -> bool:
        return self._now is not None and (self._now.kind, self._now.text) == (kind, text)

    def _take(self) -> Token | None:
        token = self._now
        if token is not None:
            self._line = token.line
        self._now = next(self._tokens, None)
        return token


def _number(token: Token) -> int | float:
    text = token.text.lower()
    try:
        return int(text, 16) if "0x" in text else int(text)
    except ValueError:
        return float(text)
