"""What the server allows, in numbers, and what a person may set about it."""

from __future__ import annotations

from dataclasses import dataclass, field

MAX_DEPTH = 100  # of nested JSON; the deepest schemas of real tools stay below 20
MAX_VALUES = 1_000_000  # in one JSON document; 64 bytes each at most
MAX_HEADER_BYTES = 64 << 10
MAX_PATH = 2048


@dataclass(frozen=True)
class Limits:
    """Bytes, seconds and counts.

    body: bytes of a JSON body. upload: bytes of a blob. header_seconds, body_seconds: until a
    request's head and body must be there. idle_seconds: a kept connection may be silent, and an
    upload may pause. write_seconds: a client may take to accept a piece. answer_seconds: an answer
    may take in all. queue: requests that may wait for their first token. per_client: requests one
    client may have at once, 0 for no limit. connections: at once. drain_seconds: answers may take
    to end after SIGTERM.
    """

    body: int = 32 << 20
    upload: int = 1 << 40
    header_seconds: float = 10.0
    body_seconds: float = 60.0
    idle_seconds: float = 60.0
    write_seconds: float = 60.0
    answer_seconds: float = 3600.0
    queue: int = 512
    per_client: int = 0
    connections: int = 1024
    drain_seconds: float = 30.0


@dataclass(frozen=True)
class ServerSettings:
    """How the server behaves. `keys`: API keys, empty for none. `origins`: further origins that
    browsers may come from, `*` stands for any characters. `loopback`: listening on the machine
    itself only, where the Host header is checked. `log_prompts`: whether logs may hold texts.
    `keep_alive`: seconds a model stays after its last request, negative for ever.
    """

    keys: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    loopback: bool = True
    log_prompts: bool = False
    keep_alive: float = 300.0
    limits: Limits = field(default_factory=Limits)
