"""Chat templates: a conversation as the text its model was trained on, rendered in the sandbox."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from jinja2.exceptions import SecurityError, TemplateError

from h2q.core.errors import TextError, shown
from h2q.text.bounds import too_much
from h2q.text.sandbox import OWN, Sandbox

MAX_TEMPLATE = 256 << 10  # characters; published ones have up to some twenty thousand
MAX_NESTING = 200  # brackets and blocks of a template inside one another
TIME_FORMAT = re.compile(r"(?:[^%]|%-?[a-zA-Z%])*")
MAX_TIME_FORMAT = 100


class ChatTemplate:
    """A template as the Hugging Face libraries render it: `messages`, `tools`, `bos_token`, and
    whatever else is given by name; `raise_exception`, `strftime_now`, `tojson` that leaves letters
    alone, `break` and `continue`, `generation` blocks.

    Raises TextError when the template is too large or no template. `now` is the clock of
    `strftime_now`.
    """

    def __init__(self, text: str, now: datetime | None = None) -> None:
        if len(text) > MAX_TEMPLATE:
            raise TextError(
                f"The chat template has more than {MAX_TEMPLATE:,} characters.",
                where="chat template",
            )
        self.text, self._now = text, now
        with _failures():
            _require_flat(text)
            self._code = Sandbox().compile(text, filename="<chat template>")

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        **names: Any,
    ) -> str:
        """The text of a conversation. Raises TextError when the template refuses it, fails, or
        takes too many steps or too much room.
        """
        sandbox = Sandbox()
        sandbox.globals |= {"raise_exception": _raise, "strftime_now": self._strftime}
        values = {
            **names,
            "messages": [dict(message) for message in messages],
            "tools": None if tools is None else [dict(tool) for tool in tools],
            "add_generation_prompt": add_generation_prompt,
        }
        with _failures():
            for value in values.values():
                sandbox.weights.of(value)
            template = sandbox.template_class.from_code(sandbox, self._code, sandbox.globals)
            context = template.new_context(values)
            with sandbox.steps.counted(OWN):
                return sandbox.concat(template.root_render_func(context))

    def _strftime(self, form: str) -> str:
        if len(form) > MAX_TIME_FORMAT or not TIME_FORMAT.fullmatch(form):
            raise too_much("a date")
        return (self._now or datetime.now()).strftime(form)


class _RefusalError(TemplateError):
    """What `raise_exception` of a template says."""


def _raise(message: object) -> None:
    raise _RefusalError(str(message))


def _require_flat(text: str) -> None:
    """Refuses what would exhaust the stack of the two compilers."""
    depth = deepest = 0
    for letter in text:
        depth += (letter in "([{") - (letter in ")]}")
        depth = max(depth, 0)
        deepest = max(deepest, depth)
    if deepest > MAX_NESTING:
        raise too_much("nesting")


class _failures:  # noqa: N801 - a block, not a thing
    """Whatever a template raises becomes a TextError in few words."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if error is None or isinstance(error, (TextError, MemoryError)):
            return
        if not isinstance(error, Exception):
            return
        if isinstance(error, _RefusalError):
            what = f"The chat template refuses this conversation: {shown(str(error))}"
        elif isinstance(error, SecurityError):
            what = "The chat template reaches for what the sandbox keeps from it."
        elif isinstance(error, RecursionError):
            what = "The chat template nests too deeply."
        else:
            what = f"The chat template fails: {type(error).__name__}: {shown(str(error))}"
        line = getattr(error, "lineno", None)
        raise TextError(
            what,
            where="chat template" + (f", line {line}" if line else ""),
            fix="Check roles and tools, or take the template of the model's own publisher.",
        ) from error
