"""The other end of the parser server: starts it, hands it descriptors, and takes its descriptions for what they are, claims."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import msgspec

import fifomark
from fifomark.core.catalogue import find
from fifomark.core.errors import InternalError
from fifomark.core.findings import Finding
from fifomark.core.policy import Limits
from fifomark.core.record import Record
from fifomark.sandbox.enter import InForce, Strictness
from fifomark.sanitizer.server import GAVE_UP, READY
from fifomark.torchfile.description import Description, decode

# With -I and -S, and our own folder last, neither the working folder, nor PYTHONPATH, nor site-packages brings a module into the parser.
PROGRAM = "import sys; sys.path.append({root!r}); from fifomark.sanitizer import server; server.main({fd}, sandbox={sandbox!r})"
_ROOT = str(Path(fifomark.__file__).resolve().parent.parent)
_START_SECONDS = 30.0
_GRACE_SECONDS = 5.0  # that the server may be late with its own clock
_ANSWER_BYTES = 4096


class _Ended(Record):
    """How a child ended: see server.main."""

    code: int
    overdue: bool


class _Lost(Exception):
    """The server is gone, or has stopped answering."""


class ParserClient:
    """Owns one parser server, and starts another when it has died. For one thread: the server lives no longer than the one that made it."""

    def __init__(self, program: str = PROGRAM, sandbox: Strictness = "auto") -> None:
        """`program` is Python, formatted with the folder that holds fifomark as `root`, the server's socket as `fd`, and `sandbox`."""
        self._program, self._sandbox = program, sandbox
        self.in_force = InForce(0, False)  # once a server was started
        self._server: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    def start(self) -> socket.socket:
        """The control socket of a living server. InternalError where none can be started."""
        if self._control is not None and self._server is not None and self._server.poll() is None:
            return self._control
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
        self._greeted(ours, self._server)
        return ours

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

    def describe(self, fd: int, limits: Limits) -> Description | Finding:
        """What the parser says of the file open at `fd`; a finding where it died, took too long, or said nonsense."""
        for _ in range(2):
            control = self.start()
            try:
                return self._asked(control, fd, limits)
            except _Lost:
                # Killed from outside, perhaps: an honest file is not refused for that. One that does it again is.
                self.close(kill=True)
            except BaseException:
                # Interrupted between question and answer: the answer must not be taken for the next file's.
                self.close(kill=True)
                raise
        return find("FM208", "the file", "the parser's server was lost twice while it read the file")

    def _asked(self, control: socket.socket, fd: int, limits: Limits) -> Description | Finding:
        until = time.monotonic() + limits.parse_seconds + _GRACE_SECONDS
        reading, writing = os.pipe2(os.O_CLOEXEC)
        try:
            try:
                socket.send_fds(control, [_request(limits)], [fd, writing])
            except OSError as e:
                raise _Lost from e
            finally:
                os.close(writing)
            body = _read_all(reading, limits.description_bytes, until)
        finally:
            os.close(reading)
        try:
            ended = msgspec.json.decode(_received(control, until), type=_Ended)
        except msgspec.DecodeError as e:
            raise _Lost from e
        return _understood(ended, body, limits)

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


def _read_all(fd: int, limit: int, until: float) -> bytes | None:
    """Everything until the end of the pipe; None where that is more than `limit` bytes, or the clock runs out."""
    parts: list[bytes] = []
    while limit >= 0 and _readable(fd, until):
        part = os.read(fd, 1 << 20)
        if not part:
            return b"".join(parts)
        parts.append(part)
        limit -= len(part)
    return None


def _understood(ended: _Ended, body: bytes | None, limits: Limits) -> Description | Finding:
    if ended.overdue or -ended.code in (signal.SIGKILL, signal.SIGXCPU):
        return find("FM208", "the file", f"reading it was stopped: it takes more than {limits.parse_seconds:g} seconds, or too much memory")
    if ended.code < 0:
        return find("FM208", "the file", f"the parser was killed by {_signal(-ended.code)} while it read the file")
    if body is None:
        return find("FM208", "the file", f"its description takes more than {limits.description_bytes:,} bytes")
    if ended.code != 0:
        said = body.decode(errors="replace") if ended.code == GAVE_UP else None
        return find("FM208", "the file", f"the parser gave up on the file (exit code {ended.code})", evidence=said)
    try:
        return decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as e:
        return find("FM208", "the file", "the parser's description of the file cannot be understood", evidence=str(e))


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
