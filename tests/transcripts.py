"""Transcripts: requests and, byte for byte, what the scripted server answers to them.

An exchange in a file of `tests/transcripts` is a title, the script's name, the request, a blank
line, and the answer with its names, times and durations masked. `python tests/transcripts.py`
writes the answers anew; what changed is then to be read.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from h2q.bench.scripted import Script
from h2q.core.errors import BusyError, ResourceError, UsageError
from h2q.core.events import Part
from scripted_server import Running, running

FOLDER = Path(__file__).parent / "transcripts"
BREAK = "=" * 80 + "\n"
CALL = Part("tool_call", '{"city":"Oslo"}', "weather")
SCRIPTS = {
    "plain": Script(),
    "nothing": Script(tokens=0),
    "thinking": Script(
        parts=tuple(Part("reasoning", text) for text in ("It is", " cold."))
        + tuple(Part("content", text) for text in ("Snow", ", <maybe>."))
    ),
    "calls": Script(
        parts=(
            Part("reasoning", "Look."), Part("content", "I look."), CALL, replace(CALL, name="f")
        )
    ),
    "letters": Script(words=("", "é", "\n\u2028", "\U0001f40b", "\0"), tokens=5),
    "a call as JSON": Script(
        words=('{"name":"weat', 'her","arguments":{"city":', '"Oslo"}}'), tokens=3
    ),
    "a stop text": Script(words=("one", " two"), tokens=2, stop=" three"),
    "fails": Script(fail_after=2, error=ResourceError("The machine is out of memory.")),
    "fails at once": Script(
        fail_after=0, error=UsageError("This schema is too deep.", where="format")
    ),
    "busy": Script(fail_after=0, error=BusyError("Too many wait.", retry_after=7)),
}  # fmt: skip
MASKS = (
    (r'"((?:chatcmpl|cmpl|call|toolu|msg|resp|rs|fc|req)[-_])[a-z0-9]{8,32}"', r'"\1*"'),
    (r'("(?:created|created_at|\w+_duration)":)\d+', r"\g<1>0"),
    (r'("(?:created_at|modified_at|expires_at|h2q)":")[^"]+', r"\1*"),
)


@dataclass(frozen=True)
class Exchange:
    """One request and its answer, as text."""

    title: str
    script: str
    request: str
    answer: str

    def ask(self, server: Running) -> str:
        """The answer that a server gives now."""
        line, _, body = self.request.partition("\n")
        method, path = line.split(" ", 1)
        server.house.worker.script = SCRIPTS[self.script]
        status, headers, data = server.call(method, path, body.encode() or None)
        head = f"{status} {headers.get('content-type', '')}".strip()
        if "retry-after" in headers:
            head += f"\nretry-after: {headers['retry-after']}"
        text = data.decode()
        for pattern, by in MASKS:
            text = re.sub(pattern, by, text)
        return f"{head}\n{text}"

    def text(self) -> str:
        return f"# {self.title}\nscript: {self.script}\n{self.request}\n\n{self.answer}"


def read(path: Path) -> list[Exchange]:
    """The exchanges of a file."""
    return [_exchange(text) for text in path.read_text("utf-8").split("\n" + BREAK)]


def _exchange(text: str) -> Exchange:
    asked, _, answer = text.partition("\n\n")
    title, script, request = asked.split("\n", 2)
    return Exchange(title.removeprefix("# "), script.removeprefix("script: "), request, answer)


def told_now(path: Path) -> Iterator[Exchange]:
    """The exchanges of a file, one after the other, as a new server tells them."""
    with running() as server:
        for exchange in read(path):
            yield replace(exchange, answer=exchange.ask(server))


def main() -> None:
    for path in sorted(FOLDER.glob("*.txt")):
        told = list(told_now(path))
        text = ("\n" + BREAK).join(exchange.text() for exchange in told)
        path.write_text(text, "utf-8")
        print(f"{path.name}: {len(told)} exchanges", file=sys.stderr)


if __name__ == "__main__":
    main()
