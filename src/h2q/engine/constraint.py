"""Answers of a stated form: JSON, a JSON Schema, a regular expression or a grammar.

llguidance keeps a parser in step with the text and says which tokens may come next; the sampler
chooses among those. The mask is one bit per token, made in tens of microseconds.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from typing import Any

import llguidance
import numpy as np
import numpy.typing as npt

from h2q.core.errors import TextError, UsageError, shown
from h2q.engine.schema_limits import MAX_BYTES, WHERE, require_modest

MAX_REGEX = 4096
# Some white space between values, never without end: small models like to write nothing else.
JSON_OPTIONS: Any = {
    "whitespace_flexible": True,
    "whitespace_pattern": r"\n {0,16}| ?",
}
LIMITS = llguidance.LLParserLimits(
    initial_lexer_fuel=400_000,
    step_lexer_fuel=200_000,
    step_max_items=50_000,
    max_items_in_row=2_000,
    max_lexer_states=50_000,  # of one or two kB each
    max_grammar_size=200_000,
    verbose_errors=False,
)


class Grammars:
    """What makes constraints for one tokenizer; costs a tenth of a second and is kept.

    `tokenizer_json` is the text of a tokenizer.json, `ends` the ids that end an answer,
    `vocab_size` the number of logits. Raises TextError when llguidance cannot read it.
    """

    def __init__(self, tokenizer_json: str, ends: Sequence[int], vocab_size: int) -> None:
        if not tokenizer_json.lstrip().startswith("{"):  # it would be taken for the name of a file
            raise TextError("The tokenizer is not the text of a tokenizer.json.")
        if not ends or not all(0 <= end < vocab_size for end in ends):
            raise TextError(
                "The model names no token that ends an answer, so none can be held to a form."
            )
        try:
            self._tokenizer = llguidance.LLTokenizer(
                tokenizer_json, n_vocab=vocab_size, eos_token=list(ends)
            )
        except Exception as error:
            raise TextError("The tokenizer cannot be used with grammars.") from error
        self.vocab_size, self.ends = vocab_size, tuple(ends)

    def json(self) -> Constraint:
        """Any JSON object."""
        return self.schema({"type": "object"})

    def schema(self, schema: dict[str, Any] | bool) -> Constraint:
        """JSON that a schema allows; True allows any. Raises UsageError when it is none, asks for
        what is not supported, or explodes.
        """
        text = require_modest(schema)
        if isinstance(schema, bool):
            text = json.dumps({} if schema else {"not": {}})
        elif "x-guidance" in schema:  # options of the compiler
            text = json.dumps({key: schema[key] for key in schema if key != "x-guidance"})
        return self._made(self._grammar_of(text))

    def regex(self, pattern: str) -> Constraint:
        """Text that a regular expression matches as a whole. Raises UsageError."""
        if len(pattern) > MAX_REGEX:
            raise _refused(f"has more than {MAX_REGEX:,} characters")
        return self._made(llguidance.LLMatcher.grammar_from_regex(pattern))

    def lark(self, grammar: str) -> Constraint:
        """Text of a grammar in llguidance's dialect of Lark. Raises UsageError."""
        if len(grammar) > MAX_BYTES:
            raise _refused(f"has more than {MAX_BYTES:,} characters")
        return self._made(llguidance.LLMatcher.grammar_from_lark(grammar))

    @staticmethod
    def _grammar_of(schema: str) -> str:
        try:
            made: str = llguidance.LLMatcher.grammar_from_json_schema(
                schema, overrides=JSON_OPTIONS
            )
        except ValueError as error:
            raise _refused(f"is not understood: {shown(str(error))}") from error
        return made

    def _made(self, grammar: str) -> Constraint:
        matcher = llguidance.LLMatcher(
            self._tokenizer,
            grammar,
            log_level=0,
            limits=LIMITS,
        )
        _require_sound(matcher)
        made = Constraint(matcher, self.vocab_size)
        made.allowed()  # what no text can satisfy is found here, not in the middle of an answer
        return made


class Constraint:
    """The form of one answer, as far as it has come."""

    def __init__(self, matcher: llguidance.LLMatcher, vocab_size: int) -> None:
        self._matcher, self._vocab_size = matcher, vocab_size
        self._mask: npt.NDArray[np.bool_] | None = None

    def allowed(self) -> npt.NDArray[np.bool_]:
        """Which tokens may come next, those that end included where the answer may end: bool
        (vocab_size,). Raises UsageError when the parser gives up.
        """
        if self._mask is None:
            bits = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
            _require_sound(self._matcher)
            mask = np.unpackbits(bits, count=self._vocab_size, bitorder="little").view(np.bool_)
            self._mask = mask
        return self._mask

    def accept(self, token: int) -> None:
        """The token that was written. Raises UsageError when it was not allowed."""
        self._mask = None
        if not self._matcher.consume_token(token):
            _require_sound(self._matcher)
            raise _refused("does not allow what was written")

    @property
    def finished(self) -> bool:
        """Whether nothing but an end may follow."""
        return bool(self._matcher.is_stopped())

    @property
    def complete(self) -> bool:
        """Whether the answer may end here."""
        return bool(self._matcher.is_accepting())

    def copy(self) -> Constraint:
        """Another stream's, from here on."""
        made = copy.copy(self)
        made._matcher = self._matcher.deep_copy()
        return made


def _require_sound(matcher: llguidance.LLMatcher) -> None:
    if matcher.is_error():
        told = matcher.get_error().strip().partition("\n")[0]
        raise _refused(f"cannot be followed: {shown(told)}")


def _refused(what: str) -> UsageError:
    return UsageError(f"The form {what}.", where=WHERE, fix="Ask for a simpler form of answer.")
