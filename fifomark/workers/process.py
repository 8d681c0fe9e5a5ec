"""One child process bound to a slot, and the pipe to it. Bytes go over the pipe, never pickles: a child may not choose what we run."""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection

from fifomark.workers.slots import Slot
from fifomark.workers.tape import Tape, record

MAX_MESSAGE = 256 << 20  # bytes that a child may say at once
BOOT_FAILURE = 78  # EX_CONFIG: the worker could not be set up; starting it again would not help
_PR_SET_PDEATHSIG = 1

Serve = Callable[[Connection, Slot], None]


class Worker:
    """A `spawn`ed process that runs `serve(connection, slot)`; dies with the thread that made it. What it says on stdout and stderr goes to
    `tape`, or where ours goes."""

    def __init__(self, slot: Slot, serve: Serve, tape: Tape | None = None) -> None:
        context = multiprocessing.get_context("spawn")
        self.slot = slot
        self.connection, theirs = context.Pipe()
        arguments = (theirs, slot, serve, os.getpid(), tape.writer if tape else None)
        self._process = context.Process(target=_main, args=arguments, name=f"fifomark {slot.name}", daemon=True)
        try:
            self._process.start()
        finally:
            theirs.close()
            if tape is not None:
                tape.writer.close()

    @property
    def pid(self) -> int | None:
        return self._process.pid

    @property
    def exitcode(self) -> int | None:
        return self._process.exitcode

    def send(self, message: bytes) -> None:
        """OSError where the worker is gone."""
        self.connection.send_bytes(message)

    def receive(self) -> bytes | None:
        """What the worker said; None where it died, or said more than MAX_MESSAGE."""
        try:
            return self.connection.recv_bytes(MAX_MESSAGE)
        except (EOFError, OSError):
            return None

    def how_it_ended(self) -> str:
        """In words, after `kill` or a death."""
        code = self._process.exitcode
        if code is None:
            return "still running"
        return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"

    def kill(self, patience: float = 0.0) -> None:
        """End the worker, after `patience` seconds, and everything that it started (it leads a process group of its own)."""
        self._process.join(patience)
        if self._process.pid is not None:
            with contextlib.suppress(ProcessLookupError):  # also when it is gone itself: what it started may not be
                os.killpg(self._process.pid, signal.SIGKILL)
        if self._process.is_alive():
            self._process.kill()  # it may not have come to lead its group yet
        self._process.join()
        self.connection.close()

    def stop(self, grace: float) -> None:
        """Let an idle worker go: it ends when its pipe closes; killed after `grace` seconds."""
        self.connection.close()
        self.kill(grace)


def _main(connection: Connection, slot: Slot, serve: Serve, parent: int, output: Connection | None) -> None:
    os.setpgid(0, 0)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)  # the parent died before the line above
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to act on
    if output is not None:
        record(output)
    assert "torch" not in sys.modules
    os.environ.update(slot.environment())
    with contextlib.suppress(EOFError, BrokenPipeError):
        serve(connection, slot)
