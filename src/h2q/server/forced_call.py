"""A tool that must be called: an answer held to the form of a call, then read as one.

A model may write a call in its own words where it is free to. Where a client insists, the answer
is a JSON object {"name", "arguments"} by its form, whatever the model would rather say.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import msgspec

from h2q.core.asks import Form
from h2q.core.events import Part, TokenEvent
from h2q.server.refusal import Refusal
from h2q.server.streaming import Answer, parts_of

Tool = dict[str, Any]
SHARED = ("$defs", "definitions")  # where schemas keep what their references name
ANY_ARGUMENTS = {"type": "object"}


def call_form(tools: Sequence[Tool]) -> Form:
    """The form of a call of one of these tools. Raises Refusal (400) when their schemas cannot
    stand side by side.
    """
    shared: dict[str, Any] = {}
    calls = [_call_schema(tool["function"], shared) for tool in tools]
    schema = calls[0] if len(calls) == 1 else {"anyOf": calls}
    return Form("schema", json.dumps({**schema, **shared}, ensure_ascii=False))


def _call_schema(function: dict[str, Any], shared: dict[str, Any]) -> dict[str, Any]:
    arguments = dict(function.get("parameters") or ANY_ARGUMENTS)
    for place in SHARED:
        kept = arguments.pop(place, None)
        if not isinstance(kept, dict):
            continue
        known = shared.setdefault(place, {})
        for name, schema in kept.items():
            if known.setdefault(name, schema) != schema:
                raise Refusal(
                    400,
                    f"tools have different definitions called {name[:80]!r}; call one by its name, "
                    'or set tool_choice to "auto"',
                    param="tool_choice",
                )
    return {
        "type": "object",
        "properties": {"name": {"const": function["name"]}, "arguments": arguments},
        "required": ["name", "arguments"],
        "additionalProperties": False,
    }


def as_call(text: str) -> Part | None:
    """The call that a text is, if it is one."""
    try:
        found = msgspec.json.decode(text.strip().encode("utf-8", "replace"))
    except (msgspec.MsgspecError, RecursionError):
        return None
    if not isinstance(found, dict) or not isinstance(found.get("name"), str):
        return None
    arguments = found.get("arguments")
    if not isinstance(arguments, dict):
        return None
    return Part("tool_call", msgspec.json.encode(arguments).decode(), found["name"])


class Parts:
    """What the events of one answer say. Where a call is forced, content waits for the end and
    becomes the call; it stays content when it is none because it was cut off.
    """

    def __init__(self, forced: bool) -> None:
        self._forced, self._held, self._called = forced, list[str](), False

    def of(self, event: TokenEvent) -> tuple[Part, ...]:
        """Parts of an event, those that come out with the last one too."""
        if not self._forced:
            return parts_of(event, True)
        found = list[Part]()
        for part in event.parts:
            if part.kind == "content":
                self._held.append(part.text)
            else:
                found.append(part)
                self._called |= part.kind == "tool_call"
        text = "".join(self._held)
        if event.finish and text and not (self._called and not text.strip()):
            found.append(as_call(text) or Part("content", text))
        return tuple(found)


def with_call(answer: Answer, forced: bool) -> Answer:
    """A whole answer whose content is the call it was forced to be."""
    if forced and not answer.calls and (call := as_call(answer.content)):
        answer.calls, answer.content = [call], ""
    return answer
