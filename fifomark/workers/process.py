"""One child process bound to a slot, and the pipe to it. Bytes go over the pipe, never pickles: a child may not choose what we run."""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any, Protocol

import psutil

from fifomark.workers import tree
from fifomark.workers.claims import Claimed
from fifomark.workers.slots import Slot
from fifomark.workers.tape import Tape, record
from fifomark.workers.template import Forked, Template
from fifomark.workers.tether import die_with

MAX_MESSAGE = 256 << 20  # bytes that a child may say at once
BOOT_FAILURE = 78  # EX_CONFIG: the worker could not be set up; starting it again would not help
_PR_SET_CHILD_SUBREAPER = 36
_FIRST_TO_GO = "500"  # oom_score_adj: where memory runs out, a worker goes and not the daemon
_LAST_SECONDS = 5.0  # after SIGKILL: what hangs in a driver or a lost file system may not be gone even then


class Line(Protocol):
    """What a worker's `serve` is given to hear tickets and to say outcomes: a Connection, or Claimed."""

    def recv_bytes(self) -> bytes: ...

    def send_bytes(self, message: bytes) -> None: ...

    def poll(self) -> bool: ...


Serve = Callable[[Any, Slot], None]  # Any: a Line
Output = tuple[Connection, str] | None  # the writer and the secret of a Tape


class Worker:
    """A process that runs `serve(connection, slot)`: a fork of `template`, or else a fresh interpreter (`spawn`).

    It dies with the thread that made it. What it says on stdout and stderr goes to `tape`, or where ours goes. With `tokens` it begins only
    with what it has claimed there (workers.claims).
    """

    def __init__(
        self,
        slot: Slot,
        serve: Serve,
        tape: Tape | None = None,
        tokens: Connection | None = None,
        template: Template | None = None,
    ) -> None:
        """ProcessLookupError where the template is gone."""
        self.slot = slot
        self.connection, theirs = multiprocessing.Pipe()
        self._started: list[psutil.Process] = []  # what it had started when we last looked
        try:
            if template is not None:
                self._process: Forked | SpawnProcess = _fork(template, slot, serve, theirs, tape, tokens)
            else:
                self._process = _spawn(slot, serve, theirs, tape, tokens)
        finally:
            theirs.close()
            if tape is not None:
                tape.writer.close()
        assert self.pid is not None
        # By the kernel's word: what a worker starts may outlive it, and holds its end of every pipe, of multiprocessing's sentinel too.
        self._death = os.dup(self._process.pidfd) if isinstance(self._process, Forked) else os.pidfd_open(self.pid)

    @property
    def pid(self) -> int | None:
        return self._process.pid

    @property
    def exitcode(self) -> int | None:
        return self._process.exitcode

    @property
    def gone(self) -> bool:
        return not self._process.is_alive()

    @property
    def waitables(self) -> Sequence[Connection | int]:
        """What becomes ready when it says something, or dies."""
        return (self.connection, self._death)

    def send(self, message: bytes) -> None:
        """OSError where the worker is gone."""
        self.connection.send_bytes(message)

    def receive(self) -> bytes | None:
        """What the worker said; None where it died, or said more than MAX_MESSAGE."""
        if self.gone:
            self._kill_what_it_left()
            if not self.connection.poll():
                return None
        try:
            return self.connection.recv_bytes(MAX_MESSAGE)
        except (EOFError, OSError):
            return None

    def usage(self) -> tree.Usage:
        """What it and all that it started take; what that is, is remembered for its end."""
        assert self.pid is not None
        self._started = tree.below(self.pid)
        return tree.usage(self.pid, self._started)

    def how_it_ended(self) -> str:
        """In words, after `kill` or a death."""
        code = self._process.exitcode
        if code is None:
            return "still running"
        return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"

    def kill(self, patience: float = 0.0) -> None:
        """End the worker, after `patience` seconds, and everything that it started.

        It leads a process group, and what leaves the group or loses its parent is still below it (a subreaper). Of a worker that died by
        itself, what left the group is known from the last look only. Waits for the end, but not for ever: see `gone`.
        """
        self._process.join(patience)
        pid = self._process.pid
        assert pid is not None
        if self._process.is_alive():
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._death, signal.SIGSTOP)  # it starts nothing more while we look
            while started := tree.alive(tree.below(pid)):
                tree.kill(started)
        self._kill_what_it_left()
        if self._process.is_alive():
            self._process.kill()  # it may not have come to lead its group yet
        self._process.join(_LAST_SECONDS)
        self._close()

    def _kill_what_it_left(self) -> None:
        """Also when it is gone itself: what it started may not be."""
        assert self.pid is not None
        tree.kill(self._started)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    def _close(self) -> None:
        self.connection.close()
        if self._death >= 0:
            os.close(self._death)
            self._death = -1

    def stop(self, grace: float) -> None:
        """Let an idle worker go: it ends when its pipe closes; killed after `grace` seconds."""
        self.connection.close()
        self.kill(grace)


def _spawn(slot: Slot, serve: Serve, connection: Connection, tape: Tape | None, tokens: Connection | None) -> SpawnProcess:
    arguments = (connection, slot, serve, os.getpid(), (tape.writer, tape.secret) if tape else None, tokens)
    process = multiprocessing.get_context("spawn").Process(target=_spawned, args=arguments, name=f"fifomark {slot.name}", daemon=True)
    process.start()
    return process


def _fork(template: Template, slot: Slot, serve: Serve, connection: Connection, tape: Tape | None, tokens: Connection | None) -> Forked:
    ends = [connection, *([tape.writer] if tape else []), *([tokens] if tokens else [])]
    arguments = (slot, serve, tape.secret if tape else None)
    return template.fork(_forked, arguments, [end.fileno() for end in ends])


def _spawned(connection: Connection, slot: Slot, serve: Serve, parent: int, output: Output, tokens: Connection | None) -> None:
    assert "torch" not in sys.modules
    _main(connection, slot, serve, parent, output, tokens)


def _forked(slot: Slot, serve: Serve, secret: str | None, descriptors: Sequence[int], parent: int) -> None:
    left = iter(descriptors)
    connection = Connection(next(left))
    output = (Connection(next(left), readable=False), secret) if secret is not None else None
    tokens = next((Connection(descriptor, writable=False) for descriptor in left), None)
    _main(connection, slot, serve, parent, output, tokens)


def _main(connection: Connection, slot: Slot, serve: Serve, parent: int, output: Output, tokens: Connection | None) -> None:
    os.setpgid(0, 0)
    die_with(parent)
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to act on
    begin = record(*output) if output is not None else None
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as score:
        score.write(_FIRST_TO_GO)
    if slot.cores:
        with contextlib.suppress(OSError):  # they may have been taken from us since
            os.sched_setaffinity(0, slot.cores)
    os.environ.update(slot.environment())
    with contextlib.suppress(EOFError, ConnectionError):  # the parent has gone, perhaps with something of ours unread
        serve(Claimed(connection, tokens, begin) if tokens is not None else connection, slot)
