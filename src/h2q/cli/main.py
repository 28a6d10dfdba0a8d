"""The program `h2q`: its commands, and what happens when one fails.

The way to `h2q run`'s first token leads through here, so only what is asked for is imported.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from collections.abc import Sequence

from h2q.cli import quick
from h2q.cli.parameters import Command
from h2q.core.errors import Cancelled, H2QError, InternalError, ResourceError

COMMANDS = {  # by the module that has them, in the order of the help
    "crystallize": "grow",
    "run": "talk",
    "show": "inspect",
    "verify": "inspect",
    "eval": "measure",
    "export": "export",
    "pull": "make",
    "create": "make",
    "ls": "models",
    "ps": "models",
    "cp": "models",
    "rm": "models",
    "stop": "models",
    "update": "update",
    "doctor": "doctor",
    "demo": "show_off",
    "serve": "serve",
    "bench": "bench",
}
WRITES = ("crystallize", "export")  # which SIGTERM unwinds as Ctrl-C does
FUNCTIONS = {"eval": "evaluate"}  # whose name is not the command's
BUG = "This is a bug in h2q, not your mistake. H2Q_TRACEBACK=1 shows more; please report it."
OURS = os.path.dirname(os.path.dirname(__file__))
MOST_LETTERS = 500  # of an error that is not ours


def main() -> None:
    """Run a command; every failure has its own exit code and, with --json, its own document."""
    words = sys.argv[1:]
    as_json = "--json" in words
    signal.signal(signal.SIGINT, _stop)
    if words and words[0] in WRITES:
        signal.signal(signal.SIGTERM, _stop)
    try:
        code = _run(words)
    except H2QError as error:
        code = _fail(error, as_json)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 141
    except MemoryError:
        code = _fail(ResourceError("The machine has too little free memory."), as_json)
    except Exception as error:
        code = _unforeseen(error, as_json)
    sys.exit(code)


def command(name: str) -> Command:
    """The function behind one of COMMANDS."""
    module = importlib.import_module(f"h2q.cli.{COMMANDS[name]}")
    found: Command = getattr(module, FUNCTIONS.get(name, name))
    return found


def _run(words: Sequence[str]) -> int:
    if words and words[0] in COMMANDS:
        asked = command(words[0])
        values = quick.read(asked, words[1:])
        if values is not None:
            asked(**values)
            return 0
    from h2q.cli import typer_app

    return typer_app.run({name: command(name) for name in COMMANDS}, words)


def _stop(_signal: int, _frame: object) -> None:
    """Ctrl-C is an error like any other: it unwinds what is half done."""
    raise Cancelled("Stopped. Nothing half-written remains; finished work is kept.")


def _fail(error: H2QError, as_json: bool) -> int:
    from h2q.cli.output import fail

    return fail(error, as_json)


def _unforeseen(error: Exception, as_json: bool) -> int:
    """A bug, told like any other failure. Where it came from in full is for who asks for it."""
    import traceback

    from h2q.core import settings

    if settings.traceback():
        traceback.print_exception(error)
    ours = [frame for frame in traceback.extract_tb(error.__traceback__) if OURS in frame.filename]
    last = f"h2q{ours[-1].filename.rpartition(OURS)[2]}:{ours[-1].lineno}" if ours else ""
    words = " ".join(f"{type(error).__name__}: {error}".split())[:MOST_LETTERS]
    return _fail(InternalError(f"Unforeseen: {words}", where=last, fix=BUG), as_json)
