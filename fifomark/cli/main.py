"""The `fifomark` command. A verb's module is imported only when that verb is called, so that `status` answers at once."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from importlib import import_module

import typer
from typer.core import TyperCommand, TyperGroup

import fifomark
from fifomark.cli import streams
from fifomark.cli.exits import Exit, stopped_by
from fifomark.cli.stops import Stopped, raising_stops
from fifomark.core.errors import FifomarkError, ModelRefused, UsageError

# Verb → what it is for. The verb's module is fifomark.cli.<verb>, its function has the verb's name.
VERBS = {
    "init": "Make a spool that works, with an example rubric and its data.",
    "demo": "Train five small real models, drop them with some bad ones, drain, show the results.",
    "serve": "Watch a spool and mark what is dropped, until a signal comes.",
    "drain": "Mark what waits in a spool, and exit.",
    "submit": "Drop files into a spool.",
    "status": "Show who waits, what runs and what ended.",
    "hold": "Keep submissions that wait from being started.",
    "release": "Let held submissions wait again.",
    "withdraw": "Delete submissions that wait in incoming/.",
    "retry": "Try rejected or failed submissions again, at the end of the queue.",
    "pause": "Start nothing new; what runs goes on.",
    "resume": "Go on after a pause.",
    "prune": "Remove files of submissions that have ended, by age, number or bytes.",
    "fsck": "Compare the ledger with the folders, and mend what does not agree.",
    "doctor": "Say what is in force on this machine, and what is wrong.",
    "service": "Print what systemd or cron need to run a spool.",
    "report": "Show the report of one submission.",
    "leaderboard": "Rank what was marked.",
    "inspect": "Say what files are, without running anything in them.",
    "mark": "Mark models against a rubric, without a spool: what one runs before submitting.",
    "rubric": "Write a rubric for your data, and check one.",
    "sanitize": "Write a clean file that holds the weights of a file and nothing else.",
}


class Verbs(TyperGroup):
    """A group that knows its verbs by name and loads one when it is asked for."""

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]
        return list(VERBS)

    def get_command(self, ctx: typer.Context, cmd_name: str) -> TyperCommand | TyperGroup | None:  # type: ignore[override]
        if cmd_name not in VERBS:
            return None
        if "--help" not in sys.argv[1:2]:
            return _load(cmd_name)
        # `fifomark --help` lists the verbs: their one line is here, their options are not asked for.
        return TyperCommand(cmd_name, help=VERBS[cmd_name], rich_markup_mode=None)


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


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code (cli.exits). No traceback for a user's mistake."""
    streams.open_closed_streams()
    try:
        with raising_stops():
            code = _run(sys.argv[1:] if arguments is None else list(arguments))
    except Stopped as stopped:
        code = stopped_by(stopped.number)
    except Exception as e:
        code = streams.undelivered() or _told(e)
    return streams.undelivered() or code


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
