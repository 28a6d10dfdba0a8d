"""The deprecated `context` of /api/generate: what was said before, as numbers that only we read.

Ollama puts token ids there. Ours hold the conversation's text, six bytes to a number, so that a
model's chat template can be applied to it again: [MARK, bytes, number, number, ...].
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from h2q.core.asks import Message
from h2q.server.refusal import Refusal

MARK = 4_827_217  # "H2Q" in another alphabet: token ids of other servers do not begin like this
WIDTH = 6  # bytes in a number: below 2^53, so that JavaScript keeps it whole
MAX_BYTES = 2 << 20  # as numbers below the 8 MiB that Ollama's own client reads as one line
Turns = list[tuple[str, str]]


def pack(messages: Sequence[Message]) -> list[int]:
    """Users' and assistants' turns as numbers; none of a conversation that is too long for it."""
    turns = [(message.role, message.content) for message in messages]
    data = msgspec.json.encode(turns)
    if len(data) > MAX_BYTES:
        return []
    numbers = [
        int.from_bytes(data[place : place + WIDTH], "little")
        for place in range(0, len(data), WIDTH)
    ]
    return [MARK, len(data), *numbers]


def unpack(context: Sequence[int]) -> tuple[Message, ...]:
    """The turns again. Raises Refusal (400) when the numbers are not ours."""
    try:
        mark, length, *numbers = context
        if mark != MARK or not 0 <= length <= MAX_BYTES or len(numbers) != -(-length // WIDTH):
            raise ValueError
        data = b"".join(number.to_bytes(WIDTH, "little") for number in numbers)[:length]
        turns = msgspec.json.decode(data, type=Turns)
    except (ValueError, OverflowError, msgspec.MsgspecError):
        raise Refusal(400, "the context is not one that this server gave") from None
    known = {"user": "user", "assistant": "assistant"}
    if any(role not in known for role, _ in turns):
        raise Refusal(400, "the context is not one that this server gave")
    return tuple(Message(role, content) for role, content in turns)  # type: ignore[arg-type]
