"""What a worker process and its parent say to each other: a length of four bytes, little endian,
then a message in MessagePack. Types are checked as they arrive; errors travel by the name of their
class.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import TypeVar

import msgspec

from h2q.core import errors
from h2q.core.asks import Ask, EmbedAsk, Embeddings
from h2q.core.errors import BusyError, H2QError, ResourceError, UsageError
from h2q.core.events import TokenEvent
from h2q.runtime.worker import Control, Order, WorkerState

MAX_FRAME = 256 << 20  # texts to embed and their vectors are the largest
LENGTH = struct.Struct("<I")


class _Message(msgspec.Struct, tag=True, array_like=True):
    """Of the call with this number."""

    id: int


class Start(_Message):
    order: Order


class Generate(_Message):
    ask: Ask


class Cancel(_Message):
    """The answer with this number is no longer wanted."""


class Took(_Message):
    """So many events of the answer with this number have been read."""

    count: int


class Embed(_Message):
    ask: EmbedAsk


class Count(_Message):
    ask: Ask


class Wish(_Message):
    control: Control


class Ready(_Message):
    """Everything is imported, nothing is loaded."""


class State(_Message):
    state: WorkerState


class Events(_Message):
    """Of one step of the model: numbers of answers and what each said. `id` means nothing."""

    answers: list[tuple[int, list[TokenEvent]]]


class Vectors(_Message):
    vectors: Embeddings


class Counted(_Message):
    count: int


class Failed(_Message):
    """An H2QError, by the name of its class."""

    kind: str
    what: str
    where: str = ""
    fix: str = ""
    retry_after: float = 1.0


Question = Start | Generate | Cancel | Took | Embed | Count | Wish
Reply = Ready | State | Events | Vectors | Counted | Failed
Some = TypeVar("Some")
_encoder = msgspec.msgpack.Encoder()
_questions: msgspec.msgpack.Decoder[Question] = msgspec.msgpack.Decoder(Question)
_replies: msgspec.msgpack.Decoder[Reply] = msgspec.msgpack.Decoder(Reply)


def frame(message: Question | Reply) -> bytes:
    """A message as it goes over the line. Raises ResourceError when it is too large, UsageError
    when it holds what cannot be written.
    """
    try:
        data = _encoder.encode(message)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise UsageError(f"This cannot be told to a worker: {error}.") from error
    if len(data) > MAX_FRAME:
        raise ResourceError(f"A message of {len(data):,} bytes is too large for a worker.")
    return LENGTH.pack(len(data)) + data


def frame_length(head: bytes) -> int:
    """Of the message behind these four bytes. Raises ResourceError when it is too large."""
    length = int(LENGTH.unpack(head)[0])
    if length > MAX_FRAME:
        raise ResourceError(f"A worker announces a message of {length:,} bytes.")
    return length


def question(data: bytes) -> Question:
    """Raises ResourceError when it is none; UsageError when an ask makes no sense."""
    return _decoded(_questions, data)


def reply(data: bytes) -> Reply:
    """Raises ResourceError when it is none."""
    return _decoded(_replies, data)


def _decoded(decoder: msgspec.msgpack.Decoder[Some], data: bytes) -> Some:
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ResourceError(f"A message between processes is damaged: {error}") from error


def failed(call: int, error: BaseException) -> Failed:
    """An error as it travels; what is not ours is told as a failure of the worker."""
    if not isinstance(error, H2QError):
        return Failed(call, "H2QError", f"The worker failed: {type(error).__name__}: {error}")
    wait = error.retry_after if isinstance(error, BusyError) else 1.0
    return Failed(call, type(error).__name__, error.what, error.where, error.fix, wait)


def error_of(told: Failed) -> H2QError:
    """The error that was told, of its own class."""
    kind = next((one for one in _kinds(H2QError) if one.__name__ == told.kind), H2QError)
    if issubclass(kind, BusyError):
        return kind(told.what, where=told.where, fix=told.fix, retry_after=told.retry_after)
    return kind(told.what, where=told.where, fix=told.fix)


def _kinds(base: type[H2QError]) -> Iterator[type[H2QError]]:
    yield base
    for kind in base.__subclasses__():
        if kind.__module__ == errors.__name__:
            yield from _kinds(kind)
