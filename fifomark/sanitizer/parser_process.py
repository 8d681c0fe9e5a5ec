"""The process of a parser server, forked from its writer or spawned, and the line to it."""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import time
from typing import IO

import fifomark
from fifomark.core.errors import InternalError
from fifomark.sandbox.enter import Strictness

# With -I and -S, and our own folder last, neither the working folder, nor PYTHONPATH, nor site-packages brings a module into the parser.
PROGRAM = (
    "import sys; sys.path.append({root!r}); from fifomark.sanitizer import parser_server; parser_server.main({fd}, sandbox={sandbox!r})"
)
_ROOT = os.path.dirname(os.path.dirname(os.path.realpath(fifomark.__file__)))
ANSWER_BYTES = 4096


class Server:
    """The process of a parser server, a child of this one, and `control`, the line to it."""

    def __init__(self, pid: int, control: socket.socket, stderr: IO[bytes] | None = None) -> None:
        """`stderr`: what it writes there; None where it writes where we do."""
        self.pid, self.control, self.stderr = pid, control, stderr
        self._pidfd = os.pidfd_open(pid)

    @property
    def alive(self) -> bool:
        return not readable(self._pidfd, 0.0)

    def kill(self) -> None:
        signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def end(self, seconds: float) -> None:
        """It ends by itself, or is killed after so many."""
        self.control.close()
        if not readable(self._pidfd, time.monotonic() + seconds):
            self.kill()
        os.waitpid(self.pid, 0)
        os.close(self._pidfd)
        if self.stderr is not None:
            self.stderr.close()


def spawned(program: str, sandbox: Strictness) -> Server:
    """InternalError where it cannot be started."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    stderr, its = os.pipe2(os.O_CLOEXEC)
    line = theirs.fileno()
    command = [sys.executable, "-I", "-S", "-c", program.format(root=_ROOT, fd=line, sandbox=sandbox)]
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
        (os.POSIX_SPAWN_DUP2, its, 2),
        (os.POSIX_SPAWN_DUP2, line, line),  # which it inherits then
    ]
    try:
        return Server(os.posix_spawn(sys.executable, command, os.environ, file_actions=actions), ours, os.fdopen(stderr, "rb"))
    except OSError as e:
        ours.close()
        os.close(stderr)
        raise InternalError(f"the parser cannot be started: {e}") from e
    finally:
        theirs.close()
        os.close(its)


def readable(fd: int, until: float) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(max(0.0, until - time.monotonic()) * 1000))


def received(control: socket.socket, until: float) -> bytes:
    """One message; empty where none comes in time, or the other end is gone."""
    try:
        return control.recv(ANSWER_BYTES) if readable(control.fileno(), until) else b""
    except OSError:
        return b""
