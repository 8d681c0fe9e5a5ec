"""Standard streams that are closed, full, or that nobody reads any more."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from typing import TextIO

from fifomark.cli.exits import Exit, stopped_by
from fifomark.core.text import shown

# What is put in the place of a stream that is closed: stdout that cannot be written to, as a closed one cannot; messages go nowhere.
_STAND_INS = (("stdin", os.O_RDONLY, "r"), ("stdout", os.O_RDONLY, "w"), ("stderr", os.O_WRONLY, "w"))

_MAX_LINE = 10_000


def open_closed_streams() -> None:
    """Python has None for a stream that was closed when it started, and its number goes to the next file that is opened."""
    for number, (name, flags, mode) in enumerate(_STAND_INS):
        if getattr(sys, name) is None:
            _put(os.open(os.devnull, flags), number)
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115 (until we end)


def say(message: str) -> None:
    """A message on stderr, where it can be had; what is unprintable in it is escaped."""
    with contextlib.suppress(OSError):
        print("fifomark:", "\n".join(shown(line, _MAX_LINE) for line in message.splitlines()), file=sys.stderr)


def undelivered() -> int | None:
    """The exit code where stdout does not take what was printed; None where it does."""
    lost = _flushed(sys.stdout)
    if isinstance(lost, BrokenPipeError):
        return stopped_by(signal.SIGPIPE)  # whoever read it has seen enough (`| head`)
    if lost is not None:
        say(str(OSError(lost.errno, lost.strerror, "standard output")))
    _flushed(sys.stderr)
    return None if lost is None else Exit.INTERNAL


def _flushed(stream: TextIO) -> OSError | None:
    """What stands in the way. What the stream still holds is dropped then, or the interpreter would complain of it at its end."""
    try:
        stream.flush()
    except OSError as e:
        _put(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        return e
    return None


def _put(fd: int, number: int) -> None:
    if fd != number:
        os.dup2(fd, number)
        os.close(fd)
