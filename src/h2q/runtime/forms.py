"""Forms of answers for one model: grammars made once, and reasoning before a form left free."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from h2q.core.asks import Form
from h2q.core.errors import UsageError
from h2q.text.dialects import Dialect

if TYPE_CHECKING:  # loads llguidance
    from h2q.engine.constraint import Constraint, Grammars
    from h2q.engine.requests import Held
    from h2q.text.tokenizer import Tokenizer


class Forms:
    """Makes what holds an answer to a form. Raises UsageError for a form that is none or explodes,
    TextError when the tokenizer cannot be held to any.
    """

    def __init__(self, tokenizer: Tokenizer, ends: tuple[int, ...], vocab_size: int) -> None:
        self._tokenizer, self._ends, self._vocab_size = tokenizer, ends, vocab_size
        self._grammars: Grammars | None = None
        self._lock = threading.Lock()

    def constraint(self, form: Form, dialect: Dialect, thinks: bool, may_think: bool) -> Held:
        """thinks: the prompt has opened reasoning. may_think: the answer may begin with it."""
        with self._lock:
            if self._grammars is None:
                from h2q.engine.constraint import Grammars

                text = self._tokenizer.to_json()
                self._grammars = Grammars(text, self._ends, self._vocab_size)
            made = self._made(self._grammars, form)
        if dialect.think_close and (thinks or may_think):
            return AfterReasoning(made, self._tokenizer, dialect, thinks)
        return made

    @staticmethod
    def _made(grammars: Grammars, form: Form) -> Constraint:
        if form.kind == "json":
            return grammars.json()
        if form.kind == "regex":
            return grammars.regex(form.text)
        if form.kind == "lark":
            return grammars.lark(form.text)
        try:
            schema = json.loads(form.text)
        except (ValueError, RecursionError) as error:
            raise UsageError("The schema is not JSON.", where="format") from error
        return grammars.schema(schema)


class AfterReasoning:
    """A form that begins where reasoning ends."""

    def __init__(
        self, form: Constraint, tokenizer: Tokenizer, dialect: Dialect, thinks: bool
    ) -> None:
        self._form, self._close = form, dialect.think_close
        self._opening = None if thinks else tokenizer.token_id(dialect.think_open)
        self._text = tokenizer.stream((dialect.think_close,))
        self._tail = ""
        self._thinks, self._fresh = thinks, not thinks

    @property
    def finished(self) -> bool:
        return not self._thinks and self._form.finished

    def allowed(self) -> npt.NDArray[np.bool_] | None:
        """See Constraint; None while it reasons, and at the begin the opening tag too."""
        if self._thinks:
            return None
        mask = self._form.allowed()
        if self._fresh and self._opening is not None:
            mask = mask.copy()
            mask[self._opening] = True
        return mask

    def accept(self, token: int) -> None:
        if self._thinks:
            self._tail = (self._tail + self._text.push(token))[-2 * len(self._close) - 64 :]
            self._thinks = self._close not in self._tail
        elif self._fresh and token == self._opening:
            self._thinks = True
        else:
            self._form.accept(token)
        self._fresh = False
