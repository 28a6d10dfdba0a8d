"""The input of a response as turns, its tools as chat completions nest them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from h2q.core.asks import Call, Message
from h2q.server.dialogue import function_tool
from h2q.server.forced_call import Tool
from h2q.server.openai.turns import ROLES, arguments_of, text_of, wrong

CALLS = ("function_call", "custom_tool_call")
RESULTS = ("function_call_output", "custom_tool_call_output")


def turns_of(value: Any, instructions: str) -> tuple[Message, ...]:
    """Turns of a text or of items; the instructions stand first. Raises Refusal (400)."""
    if isinstance(value, str):
        found = [Message("user", value)]
    elif isinstance(value, list) and value:
        found = _Items().turns(value)
    else:
        wrong("input", "must be a text or a list of items")
    if not found:
        wrong("input", "has reasoning alone, and no turn to answer")
    if instructions:
        if found[0].role == "system":
            text = f"{instructions}\n\n{found[0].content}"
            return (Message("system", text), *found[1:])
        return (Message("system", instructions), *found)
    return tuple(found)


class _Items:
    """Collects items: reasoning and calls belong to the assistant's turn beside them."""

    def __init__(self) -> None:
        self._turns = list[Message]()
        self._reasoning = ""
        self._names: dict[str, str] = {}

    def turns(self, items: list[Any]) -> list[Message]:
        for number, item in enumerate(items):
            place = f"input[{number}]"
            if not isinstance(item, dict):
                wrong(place, "must be an object")
            self._take(item, place)
        return self._turns

    def _take(self, item: Mapping[str, Any], place: str) -> None:
        kind = item.get("type", "message")
        if kind == "message":
            self._message(item, place)
        elif kind in CALLS:
            self._call(item, place)
        elif kind in RESULTS:
            self._result(item, place)
        elif kind == "reasoning":
            rows = item.get("content") or item.get("summary") or []
            self._reasoning = _texts(rows, place)
        elif kind == "item_reference":
            wrong(place, "refers to an item of another response, and none are kept here")
        else:
            wrong(
                f"{place}.type", "must be message, function_call, function_call_output or reasoning"
            )

    def _message(self, item: Mapping[str, Any], place: str) -> None:
        role = item.get("role")
        ours = ROLES.get(role) if isinstance(role, str) else None
        if ours is None or ours == "tool":
            wrong(f"{place}.role", "must be one of system, developer, user, assistant")
        if item.get("content") is None:
            wrong(f"{place}.content", "is missing")
        content = text_of(item["content"], f"{place}.content")
        reasoning = self._reasoning if ours == "assistant" else ""
        self._reasoning = ""
        self._turns.append(Message(ours, content, reasoning))

    def _call(self, item: Mapping[str, Any], place: str) -> None:
        name, call_id = item.get("name"), item.get("call_id")
        if not isinstance(name, str) or not isinstance(call_id, str):
            wrong(place, "needs a name and a call_id")
        arguments = arguments_of(item.get("arguments"), f"{place}.arguments")
        self._names[call_id] = name
        call, last = Call(name, arguments, call_id), self._turns[-1] if self._turns else None
        if last is not None and last.role == "assistant":
            self._turns[-1] = Message(
                "assistant", last.content, last.reasoning or self._reasoning, (*last.calls, call)
            )
        else:
            self._turns.append(Message("assistant", "", self._reasoning, (call,)))
        self._reasoning = ""

    def _result(self, item: Mapping[str, Any], place: str) -> None:
        call_id = item.get("call_id")
        if not isinstance(call_id, str):
            wrong(f"{place}.call_id", "must be a string")
        content = text_of(item.get("output"), f"{place}.output")
        name = self._names.get(call_id, "")
        self._turns.append(Message("tool", content, name=name, call_id=call_id))


def _texts(rows: Any, place: str) -> str:
    if not isinstance(rows, list) or not all(
        isinstance(row, dict) and isinstance(row.get("text"), str) for row in rows
    ):
        wrong(place, "must have a summary of texts")
    return "\n".join(row["text"] for row in rows)


def tools_of(tools: list[dict[str, Any]]) -> list[Tool]:
    """Functions, those in namespaces too. Tools that OpenAI's own servers run (search, code) are
    not here, and the model is not told of them. Raises Refusal (400).
    """
    found = list[Tool]()
    for number, tool in enumerate(tools):
        place, kind = f"tools[{number}]", tool.get("type", "function")
        if kind == "function":
            found.append(function_tool(tool, place))
        elif kind == "namespace":
            inner = tool.get("tools")
            if not isinstance(inner, list) or not all(isinstance(one, dict) for one in inner):
                wrong(f"{place}.tools", "must be a list of tools")
            found += tools_of([one for one in inner if one.get("type", "function") == "function"])
    return found
