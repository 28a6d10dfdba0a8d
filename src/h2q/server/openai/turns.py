"""Messages of chat completions as turns: roles, content parts, calls and their results."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from h2q.core.asks import Call, Message, Role
from h2q.server.refusal import Refusal

ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
}
TEXTS = ("text", "input_text", "output_text", "refusal")
IMAGES = ("image_url", "input_image", "image")
SOUNDS = ("input_audio", "audio")


def turns(messages: Sequence[Mapping[str, Any]]) -> tuple[Message, ...]:
    """Turns in order; a tool's message gets the name of the call it answers. Raises Refusal (400)
    that says which message and what is wrong with it.
    """
    if not messages:
        raise Refusal(400, "[] is too short - 'messages'", param="messages")
    names: dict[str, str] = {}
    return tuple(_turn(m, f"messages[{i}]", names) for i, m in enumerate(messages))


def _turn(message: Mapping[str, Any], place: str, names: dict[str, str]) -> Message:
    role = message.get("role")
    ours = ROLES.get(role.lower()) if isinstance(role, str) else None
    if ours is None:
        wrong(f"{place}.role", f"must be one of {', '.join(ROLES)}")
    made = calls(message.get("tool_calls"), f"{place}.tool_calls")
    if ours == "assistant" and not made and isinstance(message.get("function_call"), dict):
        made = (_call({"function": message["function_call"]}, f"{place}.function_call"),)
    names.update({call.id: call.name for call in made if call.id})
    content = message.get("content")
    if content is None and not made:
        wrong(f"{place}.content", "is missing; only an assistant that calls tools may say nothing")
    call_id = _text(message, "tool_call_id", place)
    reasoning = message.get("reasoning", message.get("reasoning_content"))
    return Message(
        ours,
        text_of(content, f"{place}.content"),
        reasoning if ours == "assistant" and isinstance(reasoning, str) else "",
        made if ours == "assistant" else (),
        (names.get(call_id, "") or _text(message, "name", place)) if ours == "tool" else "",
        call_id if ours == "tool" else "",
    )


def text_of(content: Any, place: str) -> str:
    """A content as text: its parts one under the other. Raises Refusal (400) for an image."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        wrong(place, "must be a string or a list of parts")
    return "\n".join(_part(part, f"{place}[{i}]") for i, part in enumerate(content))


def _part(part: Any, place: str) -> str:
    if isinstance(part, str):
        return part
    kind = part.get("type", "text") if isinstance(part, dict) else None
    if kind in IMAGES:
        wrong(place, "is an image, and this model does not support image input")
    if kind in SOUNDS:
        wrong(place, "is a sound, and this model does not support audio input")
    if kind not in TEXTS:
        wrong(place, "must be a part of type text")
    text = part.get("text", part.get("refusal"))
    if not isinstance(text, str):
        wrong(f"{place}.text", "must be a string")
    return text


def calls(rows: Any, place: str) -> tuple[Call, ...]:
    """Calls that an assistant made. Raises Refusal (400)."""
    if rows is None:
        return ()
    if not isinstance(rows, list):
        wrong(place, "must be a list")
    return tuple(_call(row, f"{place}[{i}]") for i, row in enumerate(rows))


def _call(row: Any, place: str) -> Call:
    function = row.get("function") if isinstance(row, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        wrong(place, "must be {id, type: function, function: {name, arguments}}")
    mark = row.get("id")
    return Call(
        function["name"],
        arguments_of(function.get("arguments"), f"{place}.function.arguments"),
        mark if isinstance(mark, str) else "",
    )


def arguments_of(value: Any, place: str) -> str:
    """Arguments as the text of a JSON object. Raises Refusal (400)."""
    if value is None or value == "":
        return "{}"
    found = value
    if isinstance(value, str):
        try:
            found = json.loads(value)
        except (ValueError, RecursionError):
            wrong(place, "must be the text of a JSON object")
    if not isinstance(found, dict):
        wrong(place, "must be the text of a JSON object")
    return value if isinstance(value, str) else json.dumps(found, ensure_ascii=False)


def _text(message: Mapping[str, Any], name: str, place: str) -> str:
    value = message.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        wrong(f"{place}.{name}", "must be a string")
    return str(value)


def wrong(place: str, words: str) -> NoReturn:
    """Raises Refusal (400)."""
    raise Refusal(400, f"{place} {words}", param=place)
