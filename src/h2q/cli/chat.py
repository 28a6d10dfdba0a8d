"""A conversation with a crystal: lines come in, answers go out, token by token.

Ctrl-C stops an answer, not the program: it is looked at between tokens, so that no step of the
model is left half done. A second one before the answer has stopped ends the program.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from h2q.cli.chat_commands import Desk, obey, unquoted
from h2q.cli.chat_lines import Interrupted, Lines, interruptible
from h2q.cli.output import say
from h2q.core import settings
from h2q.core.errors import Cancelled, H2QError

if TYPE_CHECKING:
    from h2q.cli.chat_state import Talk
    from h2q.core.events import TokenEvent
    from h2q.runtime.service import Service

CHATS, HISTORY = "chats", "history"
DIM, PLAIN = "\x1b[2m", "\x1b[0m"


@dataclass
class Told:
    """What an answer was made of, and its last event."""

    content: str = ""
    reasoning: str = ""
    last: TokenEvent | None = None
    stopped: bool = False


def converse(service: Service, talk: Talk, out: TextIO = sys.stdout) -> None:
    """Talk until the person leaves. Words of the program go to the terminal, or to stderr where
    answers go down a pipe.
    """
    home = settings.home()
    lines = Lines(home / HISTORY)
    seen = lines.prompts and out.isatty()
    desk = Desk(talk, service, home / CHATS, print if seen else say)
    if lines.prompts:
        say("/? tells what can be said besides words; /bye or Ctrl-D ends.")
    try:
        while True:
            try:
                text = lines.read(desk.remember)
                if text is None:
                    return
                if text.startswith("/") and not Path(text.split()[0]).exists():
                    if not obey(desk, text):
                        return
                elif text:
                    _answer(desk, unquoted(text), out, seen)
            except Interrupted:
                say("\nCtrl-D or /bye ends.")
            except Cancelled:
                raise
            except H2QError as error:
                say(f"error: {error}")
    finally:
        lines.keep()


def _answer(desk: Desk, text: str, out: TextIO, seen: bool) -> None:
    told = _heard(desk, text, out, seen)
    out.write("\n\n" if seen else "\n")
    out.flush()
    if told.content or told.reasoning:
        desk.talk.heard(text, told.content, told.reasoning)
    if told.stopped:
        say("Stopped.")
    if desk.verbose and told.last is not None and told.last.usage is not None:
        usage = told.last.usage
        rest = usage.total - usage.queue - usage.prompt
        speed = (usage.tokens - 1) / rest if rest > 0 and usage.tokens > 1 else 0.0
        say(
            f"{usage.prompt_tokens} tokens read ({usage.cached} remembered), {usage.tokens} "
            f"written, {speed:.0f} tokens/s, {told.last.planes} planes, ended by "
            f"{told.last.finish}"
        )


def _heard(desk: Desk, text: str, out: TextIO, seen: bool) -> Told:
    told, wishes = Told(), list[int]()

    def stop(_signal: int, _frame: object) -> None:
        wishes.append(1)
        if len(wishes) > 1:
            raise Cancelled("Stopped.")

    with interruptible(stop):
        events: Any = desk.service.generate(desk.talk.ask(text))
        voice = _Voice(out, seen)
        try:
            for event in events:
                told.last = event
                for part in event.parts:
                    if part.kind == "reasoning":
                        told.reasoning += part.text
                    else:
                        told.content += part.text
                    voice.say(part.text, part.kind == "reasoning")
                if wishes:
                    told.stopped = True
                    break
        finally:
            voice.say("", False)
            events.close()
    return told


class _Voice:
    """Writes an answer; reasoning is dim where a person looks, and kept off a pipe."""

    def __init__(self, out: TextIO, seen: bool) -> None:
        self._out, self._seen, self._dim = out, seen, False

    def say(self, text: str, reasoning: bool) -> None:
        if reasoning and not self._seen:
            return
        if reasoning != self._dim:
            self._out.write(DIM if reasoning else PLAIN + "\n\n")
            self._dim = reasoning
        self._out.write(text)
        self._out.flush()
