"""Messages of Anthropic's API as turns: blocks of text, thinking, calls and their results."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from h2q.core.asks import Call, Message
from h2q.server.refusal import Refusal

PASSED_OVER = ("redacted_thinking", "server_tool_use", "web_search_tool_result")
FILES = ("document", "image", "search_result", "container_upload")


def turns(messages: Sequence[Mapping[str, Any]], system: Any) -> tuple[Message, ...]:
    """Turns in order, the system's first. Raises Refusal (400) that says which message and what is
    wrong with it.
    """
    if not messages:
        wrong("messages", "at least one message is required")
    found, names = list[Message](), dict[str, str]()
    if system is not None and (text := text_of(system, "system", "\n\n")):
        found.append(Message("system", text))
    for number, message in enumerate(messages):
        place, role = f"messages.{number}", message.get("role")
        content = message.get("content")
        if role == "user":
            found += _user(content, f"{place}.content", names)
        elif role == "assistant":
            found.append(_assistant(content, f"{place}.content", names))
        elif role == "system":
            found.append(Message("system", text_of(content, f"{place}.content")))
        else:
            wrong(f"{place}.role", "must be user or assistant")
    return tuple(found)


def _user(content: Any, place: str, names: Mapping[str, str]) -> list[Message]:
    """Results of calls come before the user's words, as models were trained."""
    if isinstance(content, str):
        return [Message("user", content)]
    results, texts = list[Message](), list[str]()
    for block, where in _blocks(content, place):
        kind = block.get("type")
        if kind == "tool_result":
            results.append(_result(block, where, names))
        elif kind not in PASSED_OVER:
            texts.append(_text(block, where))
    if texts or not results:
        results.append(Message("user", "\n".join(texts)))
    return results


def _result(block: Mapping[str, Any], place: str, names: Mapping[str, str]) -> Message:
    mark = block.get("tool_use_id")
    if not isinstance(mark, str):
        wrong(f"{place}.tool_use_id", "must be a string")
    content = block.get("content")
    text = "" if content is None else text_of(content, f"{place}.content")
    if block.get("is_error") is True:
        text = f"Error: {text}"
    return Message("tool", text, name=names.get(mark, ""), call_id=mark)


def _assistant(content: Any, place: str, names: dict[str, str]) -> Message:
    if isinstance(content, str):
        return Message("assistant", content)
    texts, thoughts, calls = list[str](), list[str](), list[Call]()
    for block, where in _blocks(content, place):
        kind = block.get("type")
        if kind == "thinking":
            thoughts.append(_string(block, "thinking", where))
        elif kind == "tool_use":
            calls.append(_call(block, where))
            names[calls[-1].id] = calls[-1].name
        elif kind not in PASSED_OVER:
            texts.append(_text(block, where))
    return Message("assistant", "\n".join(texts), "\n".join(thoughts), tuple(calls))


def _call(block: Mapping[str, Any], place: str) -> Call:
    given = block.get("input", {})
    if not isinstance(given, dict):
        wrong(f"{place}.input", "must be an object")
    arguments = json.dumps(given, ensure_ascii=False)
    return Call(_string(block, "name", place), arguments, _string(block, "id", place))


def text_of(content: Any, place: str, between: str = "\n") -> str:
    """A text, or the texts of blocks. Raises Refusal (400) for blocks of another kind."""
    if isinstance(content, str):
        return content
    return between.join(_text(block, where) for block, where in _blocks(content, place))


def _blocks(content: Any, place: str) -> list[tuple[dict[str, Any], str]]:
    if not isinstance(content, list):
        wrong(place, "must be a string or a list of blocks")
    for number, block in enumerate(content):
        if not isinstance(block, dict):
            wrong(f"{place}.{number}", "must be an object")
    return [(block, f"{place}.{number}") for number, block in enumerate(content)]


def _text(block: Mapping[str, Any], place: str) -> str:
    kind = block.get("type")
    if kind in FILES:
        wrong(place, f"this model does not support blocks of type {kind}")
    if kind != "text":
        wrong(f"{place}.type", "must be text, thinking, tool_use or tool_result")
    return _string(block, "text", place)


def _string(block: Mapping[str, Any], name: str, place: str) -> str:
    value = block.get(name)
    if not isinstance(value, str):
        wrong(f"{place}.{name}", "must be a string")
    return value


def wrong(place: str, words: str) -> NoReturn:
    """Raises Refusal (400)."""
    raise Refusal(400, f"{place}: {words}", param=place)
