"""A process that has imported torch, and forks the processes of scripts: the import takes seconds, a fork some milliseconds.

It is asked for descriptors and hands them on; what they hold only its children read, each of them once, behind a sandbox of its own.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import select
import signal
import socket
import subprocess
import sys

from fifomark.core.errors import InternalError
from fifomark.core.text import shown

# -I: neither the working folder nor PYTHONPATH. It imports from where we do.
_PROGRAM = "import sys; sys.path[:] = {path!r}; from fifomark.marking import script_server; script_server.serve({control})"
_PASSED_ON = ("LD_", "OMP_", "GOMP_", "KMP_", "MKL_", "DNNL_", "ONEDNN_", "ATEN_", "GLIBC_", "MALLOC_")  # what numbers may depend on
_START_SECONDS = 120.0
_ANSWER_BYTES = 64
_SAID_BYTES = 1 << 16


class Forked:
    """A process of one script. The template has to outlive it."""

    def __init__(self, template: Template, pidfd: int) -> None:
        self._template, self._pidfd = template, pidfd
        self._code: int | None = None

    def kill(self) -> None:
        """From any thread."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def ended(self, seconds: float) -> int | None:
        """Its exit code, as subprocess counts them; None where it runs on for `seconds`."""
        if self._code is None:
            self._code = self._template.exit_code(seconds)
        return self._code

    def close(self) -> None:
        """Kill it, whatever it does, and wait for its end."""
        self.kill()
        if self.ended(_START_SECONDS) is None:
            self._template.close()
        os.close(self._pidfd)


class Template:
    """One script at a time. `counts`: its children are asked for multiplications and memory as well, which takes more imports."""

    def __init__(self, counts: bool) -> None:
        """InternalError where it cannot be started."""
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            program = _PROGRAM.format(path=[os.path.abspath(folder) for folder in sys.path], control=f"{theirs.fileno()}, counts={counts}")
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-B", "-W", "ignore", "-c", program],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                cwd="/",
                env=_environment(),
            )
        assert self._process.stderr is not None
        with self._process.stderr as stderr:
            if not self._receive(_START_SECONDS)[0]:
                self._process.kill()
                said = stderr.read(_SAID_BYTES).decode(errors="replace").strip().splitlines()
                self.close()
                raise InternalError(f"the process for TorchScript cannot be started: {shown(said[-1], 500) if said else 'it says nothing'}")

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def fork(self, line_fd: int, archive_fd: int) -> Forked:
        """A process that runs the archive at `archive_fd`, talked to at the other end of `line_fd`. InternalError where there is none."""
        try:
            socket.send_fds(self._control, [b"run"], [line_fd, archive_fd])
            _, fds = self._receive(_START_SECONDS)
        except OSError:
            fds = []
        if not fds:
            self.close()
            raise InternalError("the process that starts those of TorchScript is gone")
        return Forked(self, fds[0])

    def exit_code(self, seconds: float) -> int | None:
        """That of the last child, once it has ended."""
        said, _ = self._receive(seconds)
        return int(said) if said else None

    def _receive(self, seconds: float) -> tuple[bytes, list[int]]:
        """What it says, within `seconds`; empty where it says nothing, or is gone."""
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        if not poll.poll(seconds * 1000):
            return b"", []
        message, fds, _, _ = socket.recv_fds(self._control, _ANSWER_BYTES, 1)
        return message, list(fds)

    def close(self) -> None:
        self._control.close()
        self._process.kill()
        self._process.wait()


_templates: dict[bool, Template] = {}


def template(counts: bool) -> Template:
    """The one of this process, started when it is first asked for."""
    found = _templates.get(counts)
    if found is None or not found.alive:
        forget(counts)
        _templates[counts] = found = Template(counts)
    return found


def forget(*which: bool) -> None:
    """End templates; those that are asked for later are new."""
    for counts in which or tuple(_templates):
        if counts in _templates:
            _templates.pop(counts).close()


atexit.register(forget)


def _environment() -> dict[str, str]:
    """Nothing of ours that is somebody else's business. One thread while it starts: see sandbox.enter."""
    ours = {name: value for name, value in os.environ.items() if name.startswith(_PASSED_ON)}
    return {**ours, "OPENBLAS_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
