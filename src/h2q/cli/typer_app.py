"""The commands as Typer knows them: any command line, help, and what is wrong with a line."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer
import typer.core

from h2q.cli.parameters import Argument, Command, Given, Option, Parameter, defaults, parameters
from h2q.core.errors import UsageError

# Typer may carry its own copy of click; this is the base of its usage errors.
MISSPELT: Any = typer.BadParameter.__mro__[2]
CONTEXT = "typer_context"
# Typer 0.19 escapes brackets for Rich, `\[required]`, even where its markup is off.
typer.core.HAS_RICH = False
ANNOTATED: Any = Annotated  # made at run time, of which mypy knows nothing


def run(commands: Mapping[str, Command], words: Sequence[str]) -> int:
    """Do what a command line says; its exit code. Raises what the command raises, and UsageError
    for a line that makes no sense.
    """
    try:
        return app(commands)(list(words), standalone_mode=False) or 0
    except MISSPELT as error:
        told = str(error.format_message())
        if told.startswith("Usage"):  # no command at all: the help is what is wanted
            from h2q.cli.output import say

            say(told)
            return UsageError.exit_code
        raise UsageError(told, fix="See `h2q --help`.") from error


def app(commands: Mapping[str, Command]) -> typer.Typer:
    """The program, of commands by their names."""
    made = typer.Typer(
        name="h2q",
        help="Grow a model checkpoint into a crystal whose first bytes already talk.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    for name, command in commands.items():
        made.command(name, cls=_class(command))(_shown(command))
    return made


def _class(command: Command) -> type[typer.core.TyperCommand]:
    """Of commands that keep what is said of their arguments: Typer 0.19 loses it to Click 8.4 and
    later, whose arguments have a help of their own.
    """
    said = {
        one.name: one.said.help for one in parameters(command) if isinstance(one.said, Argument)
    }

    class Shown(typer.core.TyperCommand):
        def __init__(self, *given: Any, **more: Any) -> None:
            super().__init__(*given, **more)
            for parameter in self.params:
                if isinstance(parameter, typer.core.TyperArgument):
                    parameter.help = said[str(parameter.name)]

        def format_arguments(self, *_: Any) -> None:
            """Typer tells of them; Click would again."""

    return Shown


def _shown(command: Command) -> Command:
    """A command whose parameters are described in Typer's words."""
    known, stand_in = parameters(command), defaults(command)

    @functools.wraps(command)
    def called(**values: Any) -> None:
        context: typer.Context = values.pop(CONTEXT)
        given = Given(name for name in values if _typed(context, name))
        values.update((p.name, given) for p in known if p.kind is Given)
        command(**values)

    kind = inspect.Parameter.KEYWORD_ONLY
    shown = [inspect.Parameter(CONTEXT, kind, annotation=typer.Context)]
    for one in known:
        if one.kind is not Given:
            default = stand_in.get(one.name, inspect.Parameter.empty)
            hint = ANNOTATED[one.hint, _described(one)]
            shown.append(inspect.Parameter(one.name, kind, default=default, annotation=hint))
    called.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]
    called.__annotations__ = {one.name: one.annotation for one in shown}
    del called.__wrapped__
    return called


def _typed(context: typer.Context, name: str) -> bool:
    """Whether a parameter stands on the command line."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _described(parameter: Parameter) -> Any:
    said = parameter.said
    if isinstance(said, Argument):
        return typer.Argument(help=said.help, metavar=said.metavar, parser=said.parser)
    assert isinstance(said, Option)
    return typer.Option(
        *said.flags, help=said.help, metavar=said.metavar, min=said.min, max=said.max
    )
