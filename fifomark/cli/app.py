"""The command line as typer reads it, and what each error comes to."""

from __future__ import annotations

import gc
import signal
import sys
from importlib import import_module

import typer
from typer.core import TyperCommand, TyperGroup

import fifomark
from fifomark.cli import streams
from fifomark.cli.exits import Exit, stopped_by
from fifomark.cli.main import VERBS
from fifomark.core.errors import FifomarkError, ModelRefused, UsageError


class Verbs(TyperGroup):
    """A group that knows its verbs by name and loads one when it is asked for."""

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]
        return list(VERBS)

    def get_command(self, ctx: typer.Context, cmd_name: str) -> TyperCommand | TyperGroup | None:  # type: ignore[override]
        if cmd_name not in VERBS:
            return None
        if "--help" not in sys.argv[1:2]:
            return _loaded(cmd_name)
        # `fifomark --help` lists the verbs: their one line is here, their options are not asked for.
        return TyperCommand(cmd_name, help=VERBS[cmd_name], rich_markup_mode=None)


def _loaded(verb: str) -> TyperCommand | TyperGroup:
    command = _load(verb)
    gc.freeze()
    gc.enable()
    return command


def _load(verb: str) -> TyperCommand | TyperGroup:
    module = import_module(f"fifomark.cli.{verb}")
    if verbs := getattr(module, "app", None):
        group = typer.main.get_command(verbs)
        assert isinstance(group, TyperGroup)
        return group
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command(verb, help=VERBS[verb])(getattr(module, verb))
    command = typer.main.get_command(app)
    assert isinstance(command, TyperCommand)
    return command


app = typer.Typer(
    cls=Verbs,
    name="fifomark",
    help="Untrusted PyTorch models in, clean weights and marks out, first in, first out.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"fifomark {fifomark.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version and exit."),
) -> None:
    pass


def run(arguments: list[str]) -> int:
    """Run one command; returns its exit code."""
    try:
        return _run(arguments)
    except Exception as e:
        return streams.undelivered() or _told(e)


def _run(arguments: list[str]) -> int:
    # What typer does around this is its own way with errors: a broken pipe, for one, would be a 1, which says that a file is unsafe.
    command = typer.main.get_command(app)
    with command.make_context("fifomark", arguments) as context:
        code = command.invoke(context)
    return code if isinstance(code, int) else Exit.FINE


def _told(error: Exception) -> int:
    match error:
        case typer.Exit():
            return error.exit_code
        case BrokenPipeError():
            return stopped_by(signal.SIGPIPE)
        case typer.TyperException():  # typer's own, no longer click's: an unknown option, a value that is none
            streams.say(error.format_message())
            return Exit.USAGE
        case ModelRefused():
            streams.say(str(error))
            return Exit.NO
        case UsageError():
            streams.say(str(error))
            return Exit.USAGE
        case FifomarkError() | OSError():
            streams.say(str(error))
            return Exit.INTERNAL
        case _:
            raise error
