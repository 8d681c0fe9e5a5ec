"""Printing for programs."""

from __future__ import annotations

import sys

import msgspec

from fifomark.cli.exits import Exit
from fifomark.core.requests import Answer


def answered(answer: Answer, *, json: bool) -> Exit:
    """Say what became of each; NO where something could not be done."""
    for result in answer.results:
        if json:
            json_line(result)
        else:
            line = result.message if result.id is None else f"{result.id:08d} {result.message}"
            print(line, file=sys.stdout if result.done else sys.stderr)
    return Exit.FINE if all(result.done for result in answer.results) else Exit.NO


def json_line(value: object) -> None:
    """`value` as JSON on a line of its own, at once: what reads us may be waiting for it."""
    try:
        sys.stdout.buffer.write(msgspec.json.encode(value) + b"\n")
        sys.stdout.flush()
    except OSError as e:
        raise OSError(e.errno, e.strerror, "standard output") from e
