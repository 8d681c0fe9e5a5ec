"""The `fifomark` command. A verb's module is imported only when that verb is called, so that `status` answers at once."""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence

from fifomark.cli import streams
from fifomark.cli.exits import stopped_by
from fifomark.cli.stops import Stopped, raising_stops

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


# Verbs that need a writer, which takes longer to start than all else: it starts while the rest is imported.
_SANITIZING = ("inspect", "sanitize")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code (cli.exits). No traceback for a user's mistake."""
    streams.open_closed_streams()
    gc.disable()  # nothing that is imported is ever garbage: it need not be looked through, neither now nor at the end (app.py)
    try:
        with raising_stops():  # from here on; what takes its time to import is imported within
            code = _run(sys.argv[1:] if arguments is None else list(arguments))
    except Stopped as stopped:
        code = stopped_by(stopped.number)
    finally:
        gc.enable()
    return streams.undelivered() or code


def _run(arguments: list[str]) -> int:
    if not arguments or arguments[0] not in _SANITIZING or "--help" in arguments:
        return _called(arguments)
    from fifomark.sanitizer import launching

    try:
        launching.launch_ahead()
        return _called(arguments)
    finally:
        launching.end_ahead()


def _called(arguments: list[str]) -> int:
    from fifomark.cli import app

    return app.run(arguments)
