"""The program `h2q`: its commands, and what happens when one fails."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

import typer

from h2q.cli import (
    bench,
    doctor,
    export,
    grow,
    inspect,
    make,
    measure,
    models,
    serve,
    show_off,
    talk,
    update,
)
from h2q.cli.output import BUG, fail, say
from h2q.core.errors import Cancelled, H2QError, ResourceError, UsageError

# Typer carries its own copy of click; this is the base of its usage errors.
MISSPELT: Any = typer.BadParameter.__mro__[2]

app = typer.Typer(
    name="h2q",
    help="Grow a model checkpoint into a crystal whose first bytes already talk.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("crystallize")(grow.crystallize)
app.command("run")(talk.run)
app.command("show")(inspect.show)
app.command("verify")(inspect.verify)
app.command("eval")(measure.evaluate)
app.command("export")(export.export)
app.command("pull")(make.pull)
app.command("create")(make.create)
app.command("ls")(models.ls)
app.command("ps")(models.ps)
app.command("cp")(models.cp)
app.command("rm")(models.rm)
app.command("stop")(models.stop)
app.command("update")(update.update)
app.command("doctor")(doctor.doctor)
app.command("demo")(show_off.demo)
app.command("serve")(serve.serve)
app.command("bench")(bench.bench)


def main() -> None:
    """Run a command; every failure has its own exit code and, with --json, its own document."""
    as_json = "--json" in sys.argv[1:]
    signal.signal(signal.SIGINT, _stop)
    try:
        code = app(standalone_mode=False) or 0
    except H2QError as error:
        code = fail(error, as_json)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 141
    except MemoryError:
        code = fail(ResourceError("The machine has too little free memory."), as_json)
    except Exception as error:
        code = _unforeseen(error, as_json)
    sys.exit(code)


def _stop(_signal: int, _frame: object) -> None:
    """Ctrl-C is an error like any other: it unwinds what is half done."""
    raise Cancelled("Stopped. Nothing half-written remains; finished work is kept.")


def _unforeseen(error: Exception, as_json: bool) -> int:
    """A misspelt command line is the person's mistake, anything else ours."""
    if isinstance(error, MISSPELT):
        words = str(error.format_message())
        if not words.startswith("Usage"):
            return fail(UsageError(words, fix="See `h2q --help`."), as_json)
        say(words)
        return UsageError.exit_code
    import traceback

    traceback.print_exception(error)
    say(BUG)
    return 70
