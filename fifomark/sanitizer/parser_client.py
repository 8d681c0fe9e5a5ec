"""The other end of the parser server: starts it, hands it descriptors, and takes its descriptions for what they are, claims."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

import fifomark
from fifomark.core.catalogue import find
from fifomark.core.errors import InternalError
from fifomark.core.findings import Finding
from fifomark.core.policy import Limits
from fifomark.core.record import Record
from fifomark.sandbox.enter import InForce, Strictness
from fifomark.sanitizer.parser_server import GAVE_UP, LENGTH_BYTES, MAX_FILES, READY
from fifomark.torchfile.description import Description, decode

# With -I and -S, and our own folder last, neither the working folder, nor PYTHONPATH, nor site-packages brings a module into the parser.
PROGRAM = (
    "import sys; sys.path.append({root!r}); from fifomark.sanitizer import parser_server; parser_server.main({fd}, sandbox={sandbox!r})"
)
_ROOT = str(Path(fifomark.__file__).resolve().parent.parent)
_START_SECONDS = 30.0
_GRACE_SECONDS = 5.0  # that the server may be late with its own clock
_ANSWER_BYTES = 4096


class _Ended(Record):
    """How a child ended: see server.main."""

    code: int
    overdue: bool


class Asked(NamedTuple):
    """Files whose descriptions will come through `pipe`, by `until` on the monotonic clock."""

    fds: Sequence[int]
    limits: Limits
    pipe: int
    until: float


class _Lost(Exception):
    """The server is gone, or has stopped answering."""


class _Killed(Exception):
    """The child was, by somebody else; the server lives."""


class ParserClient:
    """Owns one parser server, and starts another when it has died. For one thread: the server lives no longer than the one that made it."""

    def __init__(self, program: str = PROGRAM, sandbox: Strictness = "auto") -> None:
        """`program` is Python, formatted with the folder that holds fifomark as `root`, the server's socket as `fd`, and `sandbox`."""
        self._program, self._sandbox = program, sandbox
        self.in_force = InForce(0, False)  # once a server was started
        self._server: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._ready = False  # whether the server has greeted us
        self._owed = 0  # answers of the server on how a child ended that were not asked for yet

    def start(self) -> socket.socket:
        """The control socket of a living server. InternalError where none can be started."""
        control, server = self.launch()
        if not self._ready:
            self._greeted(control, server)
            self._ready = True
        return control

    def launch(self) -> tuple[socket.socket, subprocess.Popen[bytes]]:
        """The same without waiting until it is ready."""
        if self._control is not None and self._server is not None and self._server.poll() is None:
            return self._control, self._server
        self.close()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control = ours
        program = self._program.format(root=_ROOT, fd=theirs.fileno(), sandbox=self._sandbox)
        command = [sys.executable, "-I", "-S", "-c", program]
        null, pipe = subprocess.DEVNULL, subprocess.PIPE
        with theirs:
            try:
                self._server = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=null, stdout=null, stderr=pipe, cwd="/")
            except OSError as e:
                self.close()
                raise InternalError(f"the parser cannot be started: {e}") from e
        return ours, self._server

    def _greeted(self, control: socket.socket, server: subprocess.Popen[bytes]) -> None:
        """Wait until the server is ready. From then on it has nobody to write to but us."""
        assert server.stderr is not None
        with server.stderr:
            greeting = _received(control, time.monotonic() + _START_SECONDS)
            if greeting.startswith(READY):
                self.in_force = InForce(*msgspec.json.decode(greeting.removeprefix(READY), type=tuple[int, bool]))
                return
            server.kill()
            said = server.stderr.read(_ANSWER_BYTES).decode(errors="replace").strip()
        self.close()
        raise InternalError(f"the parser cannot be started: {said.splitlines()[-1] if said else 'it says nothing'}")

    def describe(self, fds: Sequence[int], limits: Limits) -> list[Description | Finding]:
        """What the parser says of the files open at `fds`, at most MAX_FILES, all read by one child.

        A finding where it died, took too long, or said nonsense. A child of many that ends early is no word on those that it left: each
        of them is read again, by a child of its own.
        """
        return self.told(self.ask(fds, limits))

    def ask(self, fds: Sequence[int], limits: Limits) -> Asked:
        """Let the parser begin. What it says is asked for by `told`, in the order of the asking, and soon: a description that nobody reads
        takes its child's time."""
        assert 0 < len(fds) <= MAX_FILES
        control = self.start()
        while self._owed and _received(control, 0.0):  # what lies there: the server stops where nobody ever takes it
            self._owed -= 1
        reading, writing = os.pipe2(os.O_CLOEXEC)
        with contextlib.suppress(OSError):  # the server is gone: the pipe says nothing, and `told` sees to it
            socket.send_fds(control, [_request(limits)], [*fds, writing])
        os.close(writing)
        self._owed += 1
        return Asked(fds, limits, reading, time.monotonic() + limits.parse_seconds + _GRACE_SECONDS)

    def told(self, asked: Asked) -> list[Description | Finding]:
        """See `describe`."""
        fds, limits = asked.fds, asked.limits
        for last in (False, True):
            try:
                return self._told(asked, last=last)
            # Killed from outside, perhaps: an honest file is not refused for that. One that does it again is.
            except _Killed:
                asked = self.ask(fds, limits)
            except _Lost:
                self.close(kill=True)
                if not last:
                    asked = self.ask(fds, limits)
            except BaseException:
                # Interrupted between question and answer: the answer must not be taken for the next file's.
                self.close(kill=True)
                raise
        lost = find("FM208", "the file", "the parser's server was lost twice while it read the file")
        return [lost] if len(fds) == 1 else self._one_by_one(fds, limits)

    def _one_by_one(self, fds: Sequence[int], limits: Limits) -> list[Description | Finding]:
        return [seen for fd in fds for seen in self.describe([fd], limits)]

    def _told(self, asked: Asked, *, last: bool) -> list[Description | Finding]:
        """_Killed only unless this is the `last` time that it is asked."""
        fds, limits = asked.fds, asked.limits
        try:
            said = _read_bodies(asked.pipe, len(fds), limits.description_bytes, asked.until)
        finally:
            os.close(asked.pipe)
        seen = [_understood(body, limits) for body in said.bodies]
        if len(seen) == len(fds):
            return seen  # how its child ended need not be known; the server says it all the same
        ended = self._ended(asked.until)
        if len(fds) > 1:
            return seen + self._one_by_one(fds[len(seen) :], limits)
        if not last and _was_killed(ended):
            raise _Killed
        return [_failed(ended, said.rest, limits)]

    def _ended(self, until: float) -> _Ended:
        """How the last child ended: the last of the answers that the server owes us."""
        answer = b""
        while self._control is not None and self._owed:
            answer = _received(self._control, until)
            self._owed -= 1
        try:
            return msgspec.json.decode(answer, type=_Ended)
        except msgspec.DecodeError as e:
            raise _Lost from e

    def close(self, *, kill: bool = False) -> None:
        """End the server; with `kill` at once, else it ends by itself."""
        if self._control is not None:
            self._control.close()
        if self._server is not None:
            try:
                self._server.wait(timeout=0.0 if kill else 2.0)
            except subprocess.TimeoutExpired:
                self._server.kill()
                self._server.wait()
        self._server = self._control = None
        self._ready = False
        self._owed = 0


def _request(limits: Limits) -> bytes:
    budgets = {name: getattr(limits, name) for name in ("pickle_bytes", "inflated_bytes", "description_bytes", "tensors")}
    return msgspec.json.encode({"limits": budgets, "memory_bytes": limits.parse_memory_bytes, "seconds": limits.parse_seconds})


def _readable(fd: int, until: float) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(max(0.0, until - time.monotonic()) * 1000))


def _received(control: socket.socket, until: float) -> bytes:
    """One message; empty where none comes in time, or the other end is gone."""
    try:
        return control.recv(_ANSWER_BYTES) if _readable(control.fileno(), until) else b""
    except OSError:
        return b""


class _Said(NamedTuple):
    """The descriptions that came whole, and what came instead of the next one; None for one that is too long."""

    bodies: list[bytes]
    rest: bytes | None


def _read_bodies(fd: int, count: int, limit: int, until: float) -> _Said:
    """Read until there are `count` descriptions of at most `limit` bytes, the pipe ends, or the clock runs out.

    Each comes behind its length. None is empty: behind a length of zero stands why the child gave up.
    """
    bodies: list[bytes] = []
    rest = bytearray()
    while len(bodies) < count:
        size = int.from_bytes(rest[:LENGTH_BYTES], "little")
        if size > limit or len(rest) > limit + LENGTH_BYTES:
            return _Said(bodies, None)
        if size and len(rest) >= LENGTH_BYTES + size:
            bodies.append(bytes(rest[LENGTH_BYTES : LENGTH_BYTES + size]))
            del rest[: LENGTH_BYTES + size]
            continue
        part = os.read(fd, 1 << 20) if _readable(fd, until) else b""
        if not part:
            break
        rest += part
    return _Said(bodies, bytes(rest[LENGTH_BYTES:]))


def _understood(body: bytes, limits: Limits) -> Description | Finding:
    try:
        return decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as e:
        return find("FM208", "the file", "the parser's description of the file cannot be understood", evidence=str(e))


def _too_long(limits: Limits) -> Finding:
    return find("FM208", "the file", f"its description takes more than {limits.description_bytes:,} bytes")


def _was_killed(ended: _Ended) -> bool:
    """By whom the kernel does not say, but its own limits come with another signal first (see parser_server)."""
    return not ended.overdue and ended.code == -signal.SIGKILL


def _failed(ended: _Ended, said: bytes | None, limits: Limits) -> Finding:
    """Why there is no description of a file. `said` is what came instead; None where that was too much."""
    if ended.overdue or -ended.code in (signal.SIGKILL, signal.SIGXCPU):
        return find("FM208", "the file", f"reading it was stopped: it takes more than {limits.parse_seconds:g} seconds, or too much memory")
    if ended.code < 0:
        return find("FM208", "the file", f"the parser was killed by {_signal(-ended.code)} while it read the file")
    if said is None:
        return _too_long(limits)
    if ended.code == 0:
        return find("FM208", "the file", "the parser's description of the file cannot be understood")
    text = said.decode(errors="replace") if ended.code == GAVE_UP else None
    return find("FM208", "the file", f"the parser gave up on the file (exit code {ended.code})", evidence=text)


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
