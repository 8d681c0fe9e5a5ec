"""The parser server: forks one child for each file, and the child describes it. Standard library only.

The server is a process of its own that no folder, variable or site package of its surroundings can bring a module into. Before it takes
the first file it locks itself down: from then on it can open no path, no socket and no program, and its children still less. A child gets
open descriptors to read and one pipe to write to, and ends by its resource limits or by the server's clock. It is forked, and warms up,
before its file comes, so that no file waits for that.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import resource
import select
import signal
import socket
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from fifomark.sandbox.enter import FORKING, READING, Narrowing, Strictness, enter
from fifomark.sanitizer.batch import MAX_FILES
from fifomark.torchfile import sample
from fifomark.torchfile.source import ParseLimits, place_of

READY = b"ready"
GAVE_UP = 3  # exit code of a child whose parser raised, which is a bug of ours; the pipe then says what
MAX_REQUEST = 4096
LENGTH_BYTES = 8
_PRACTICE = 30  # readings after which the interpreter is as quick at it as it gets; each child begins with what its parent has learned
_PR_SET_PDEATHSIG = 1

Describe = Callable[[int, ParseLimits], bytes]

_libc = ctypes.CDLL(None)


def describe_file(fd: int, limits: ParseLimits) -> bytes:
    """See torchfile.describe, which the server's own process imports: whoever forks it reads no structure, and gets ready meanwhile."""
    from fifomark.torchfile.describe import describe

    return describe(fd, limits)


def fork(line: int, sandbox: Strictness) -> tuple[int, socket.socket]:
    """A server forked from this process, which has imported nothing yet that a parser is not to have: its process, and the line to it.
    `line` is a descriptor of ours alone.

    Where it cannot start, its first message says why.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = os.fork()
    if pid:
        theirs.close()
        return pid, ours
    try:
        ours.close()
        os.close(line)
        main(os.dup(theirs.fileno()), sandbox=sandbox)
    except BaseException as e:
        theirs.send(f"{type(e).__name__}: {e}".encode()[:MAX_REQUEST])
    finally:
        os._exit(0)


def main(control_fd: int, describe: Describe = describe_file, sandbox: Strictness = "auto") -> None:
    """Serve requests on the socket `control_fd` until its other end is closed, locked down as far as `sandbox` says.

    The first message is READY and, as JSON, what is in force: [version of Landlock, seccomp].

    A request is JSON {"limits", "seconds", "memory_bytes"}, and beside it the descriptors of the files, at most MAX_FILES, and of the pipe
    to write to. One child describes them all, one after another, each as its length in 8 bytes and its description; behind a length of
    zero stands why it gave up. The answer is JSON
    {"code", "overdue"}: how the child ended, as subprocess counts exit codes, and whether it had to be stopped.
    """
    ignore_stops()
    _die_with_parent()
    gc.enable()
    control = socket.socket(fileno=control_fd)
    warm_up = sample.opened()
    for _ in range(_PRACTICE):
        describe_file(warm_up, ParseLimits())
    gc.collect()
    gc.freeze()  # what is frozen the children's collector does not touch, and so not copy
    narrowing = Narrowing(READING)
    entered = enter(FORKING, sandbox)

    def born() -> _Child:
        return _Child(control, warm_up, describe, lambda: narrowing.enter(entered))

    child = born()
    control.send(READY + json.dumps(entered).encode())
    while True:
        message, fds, _, _ = socket.recv_fds(control, MAX_REQUEST, MAX_FILES + 1)
        if not message:
            return
        if not child.told(message, fds):  # it was killed while it waited, by no file
            child.ended(0)
            child = born()
            child.told(message, fds)
        for fd in fds:
            os.close(fd)
        following = born()  # while this one reads: the next file need not wait for it
        control.send(json.dumps(child.ended(json.loads(message)["seconds"])).encode())
        child = following


class _Child:
    """A forked child that waits to be told what to read, reads that, and ends."""

    def __init__(self, control: socket.socket, warm_up: int, describe: Describe, narrow: Callable[[], None]) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._pid = os.fork()
        if self._pid == 0:
            control.close()
            ours.close()
            _read_and_end(theirs, warm_up, describe, narrow)
        theirs.close()
        self._line = ours

    def told(self, message: bytes, fds: Sequence[int]) -> bool:
        """Whether the child could be told."""
        with self._line:
            try:
                socket.send_fds(self._line, [message], fds)
            except OSError:
                return False
        return True

    def ended(self, seconds: float) -> dict[str, Any]:
        """Wait for the child, at most `seconds`, and say how it ended."""
        pidfd = os.pidfd_open(self._pid)
        try:
            poll = select.poll()
            poll.register(pidfd, select.POLLIN)
            overdue = not poll.poll(seconds * 1000)
            if overdue:
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            _, status = os.waitpid(self._pid, 0)
        finally:
            os.close(pidfd)
        return {"code": os.waitstatus_to_exitcode(status), "overdue": overdue}


def _read_and_end(line: socket.socket, warm_up: int, describe: Describe, narrow: Callable[[], None]) -> NoReturn:
    code, pipe = GAVE_UP, -1
    try:
        _die_with_parent()
        describe_file(warm_up, ParseLimits())  # the pages that reading writes to are copied now, not when a file waits
        os.close(warm_up)
        message, fds, _, _ = socket.recv_fds(line, MAX_REQUEST, MAX_FILES + 1)
        if not message:
            os._exit(0)
        line.close()
        request = json.loads(message)
        *files, pipe = fds
        _set_limits(request["seconds"], request["memory_bytes"])
        narrow()
        for file in files:
            body = describe(file, ParseLimits(**request["limits"]))
            _write(pipe, len(body).to_bytes(LENGTH_BYTES, "little") + body)
        code = 0
    except BaseException as e:
        _write(pipe, bytes(LENGTH_BYTES) + place_of(e).encode())
    finally:
        os._exit(code)


def ignore_stops() -> None:
    """What stops a whole group of processes (Ctrl-C, `timeout`, a terminal that goes) is for whoever started us; we end when they do."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def _die_with_parent() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _set_limits(seconds: float, memory_bytes: int) -> None:
    """Of this process; where whoever started us has lower ones (`ulimit`), those."""
    for what, value in (
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_CPU, int(seconds) + 2),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_NOFILE, MAX_FILES + 16),
    ):
        hard = clamped(what, value)
        # The soft limit of processor time ends in SIGXCPU; the hard one in SIGKILL, as if somebody outside had killed us.
        soft = max(1, hard - 1) if what == resource.RLIMIT_CPU else hard
        resource.setrlimit(what, (soft, hard))


def clamped(what: int, value: int) -> int:
    """`value`, or the hard limit where that is lower: nobody but root can raise it."""
    hard = resource.getrlimit(what)[1]
    return value if hard == resource.RLIM_INFINITY else min(value, hard)


def _write(pipe: int, body: bytes) -> None:
    rest = memoryview(body)
    while rest:
        rest = rest[os.write(pipe, rest) :]
