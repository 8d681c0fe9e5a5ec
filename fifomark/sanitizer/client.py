"""The other end of the parser server: starts it, hands it descriptors, and takes its descriptions for what they are, claims."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType

import msgspec

import fifomark
from fifomark.core.catalogue import find
from fifomark.core.errors import InternalError
from fifomark.core.findings import Finding
from fifomark.core.policy import Limits
from fifomark.torchfile.description import Description, decode

# Isolated (-I, -S): neither the working folder, nor PYTHONPATH, nor site-packages can bring a module of theirs into the parser.
_START = "import sys; sys.path.insert(0, {root!r}); from fifomark.sanitizer.server import main; main({fd})"
_GRACE = 5.0  # seconds that the server may be late with its own clock


class ParserClient:
    """Owns one parser server, started with the first file and again whenever it has died."""

    def __init__(self) -> None:
        self._server: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    def describe(self, fd: int, limits: Limits) -> Description | Finding:
        """What the parser says of the file open at `fd`; a finding where it died, took too long, or said nonsense."""
        control = self._started()
        reading, writing = os.pipe2(os.O_CLOEXEC)
        until = time.monotonic() + limits.parse_seconds + _GRACE
        try:
            try:
                socket.send_fds(control, [_request(limits)], [fd, writing])
            except OSError:
                self.close()
                return find("FM208", "the file", "the parser was not there; submit the file again", advice="Submit the file again.")
            finally:
                os.close(writing)
            body = _read_all(reading, limits.description_bytes, until)
        finally:
            os.close(reading)
        ended = self._ended(control, until)
        if ended is None or body is None or ended["overdue"] or ended["code"] != 0:
            return _death(ended, limits)
        try:
            return decode(body)
        except msgspec.DecodeError as e:
            return find("FM208", "the file", "the parser's description cannot be relied on", evidence=str(e))

    def _started(self) -> socket.socket:
        if self._server is not None and self._server.poll() is None and self._control is not None:
            return self._control
        self.close()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        root = str(Path(fifomark.__file__).resolve().parent.parent)
        command = [sys.executable, "-I", "-S", "-c", _START.format(root=root, fd=theirs.fileno())]
        try:
            self._server = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()])
        except OSError as e:
            ours.close()
            raise InternalError(f"the parser cannot be started: {e}") from e
        finally:
            theirs.close()
        self._control = ours
        return ours

    def _ended(self, control: socket.socket, until: float) -> dict[str, int] | None:
        """How the child ended; None where the server itself is gone or silent, and is then put away."""
        ready, _, _ = select.select([control], [], [], max(0.0, until - time.monotonic()))
        answer = b""
        with contextlib.suppress(OSError):
            answer = control.recv(4096) if ready else b""
        if not answer:
            self.close()
            return None
        ended: dict[str, int] = json.loads(answer)
        return ended

    def close(self) -> None:
        if self._control is not None:
            self._control.close()
        if self._server is not None:
            try:
                self._server.wait(timeout=1.0)
            except subprocess.TimeoutExpired:
                self._server.kill()
                self._server.wait()
        self._server = self._control = None

    def __enter__(self) -> ParserClient:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def _request(limits: Limits) -> bytes:
    parse = {
        "pickle_bytes": limits.pickle_bytes,
        "inflated_bytes": limits.inflated_bytes,
        "description_bytes": limits.description_bytes,
        "tensors": limits.tensors,
    }
    return json.dumps({"limits": parse, "memory_bytes": limits.parse_memory_bytes, "seconds": limits.parse_seconds}).encode()


def _read_all(fd: int, limit: int, until: float) -> bytes | None:
    """Everything until the end of the pipe; None beyond `limit` bytes or the clock."""
    parts: list[bytes] = []
    while limit >= 0:
        ready, _, _ = select.select([fd], [], [], max(0.0, until - time.monotonic()))
        if not ready:
            return None
        part = os.read(fd, 1 << 20)
        if not part:
            return b"".join(parts)
        parts.append(part)
        limit -= len(part)
    return None


def _death(ended: dict[str, int] | None, limits: Limits) -> Finding:
    if ended is None:
        return find("FM208", "the file", "the parser was lost while it read the file")
    code = ended["code"]
    if ended["overdue"] or -code in (signal.SIGXCPU, signal.SIGKILL):
        message = f"reading it takes more than {limits.parse_seconds:g} seconds"
    elif code < 0:
        message = f"the parser was killed by {signal.Signals(-code).name} while it read the file"
    else:
        message = f"the parser gave up on the file (exit code {code})"
    return find("FM208", "the file", message)
