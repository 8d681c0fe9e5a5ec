"""A process that has imported what workers need, and forks them: to import torch takes seconds and hundreds of megabytes, to fork takes
milliseconds. So all slots of the CPU are ready as soon as one is, and a worker that was killed is replaced at once.

Workers of GPUs are not forked (workers.process): what a driver has set up does not survive that. Nor is the script that uses us imported
here, as multiprocessing would: what that has begun with torch does not survive it either.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import os
import pickle
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from multiprocessing.connection import wait
from typing import Any, Literal

from fifomark.workers.tether import die_with

Main = Callable[..., None]  # called with what `fork` was given, its own copies of the descriptors, and the pid of the template

MAX_LOSSES = 3  # templates in a row that did not come up, after which workers are started without
_PROGRAM = "import sys; sys.path[:] = {path!r}; from fifomark.workers.template import serve; serve({line}, {module!r}, {parent})"
_MOST_SAID, _MOST_DESCRIPTORS = 1 << 16, 8  # of a message, in bytes
_ANSWER_SECONDS = 10.0  # that a fork may take
_CODE_SECONDS = 1.0  # after a child's end, until its exit code is told
_LAST_SECONDS = 2.0  # that it may take to end once we have hung up
_UNKNOWN = 255  # exit code of a child of which none was told


class Template:
    """The daemon's side. It dies with the thread that made it, and all that it has forked dies with it."""

    def __init__(self, module: str, environment: Mapping[str, str], boot_seconds: float) -> None:
        """Begins to import `module` under `environment`, and does not wait for that; `boot_seconds` is what it may take."""
        self._line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            path = [os.path.abspath(folder) for folder in sys.path]
            program = _PROGRAM.format(path=path, line=theirs.fileno(), module=module, parent=os.getpid())
            self._process = subprocess.Popen(
                [sys.executable, "-c", program],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=2,  # what is printed while it imports is no result
                env={**os.environ, **environment},
            )
        self._death = os.pidfd_open(self._process.pid)
        self._until = time.monotonic() + boot_seconds
        self._up = self._silent = False
        self._codes: dict[int, int] = {}  # of children that have ended, by pid, until they are asked for

    @property
    def state(self) -> Literal["starting", "up", "silent", "gone"]:
        """Never waits. One that is silent has not answered once; what it has forked goes on."""
        while not self._up and (said := self._hear(0.0)[0]):
            self._up = said == [b"up"]
        if self._process.poll() is not None or (not self._up and time.monotonic() > self._until):
            return "gone"
        if self._silent:
            return "silent"
        return "up" if self._up else "starting"

    @property
    def was_up(self) -> bool:
        return self._up

    @property
    def waitables(self) -> Sequence[int]:
        """What becomes ready when it is up, or is gone before that."""
        return () if self._up else (self._line.fileno(), self._death)

    def fork(self, main: Main, arguments: Sequence[Any], descriptors: Sequence[int]) -> Forked:
        """A process that runs `main`, found as pickle finds it. ProcessLookupError where the template is gone, another OSError where it
        cannot fork or does not answer."""
        try:
            socket.send_fds(self._line, [pickle.dumps((main, arguments))], descriptors)
        except OSError as e:
            raise ProcessLookupError("the process that forks workers is gone") from e
        while (heard := self._hear(_ANSWER_SECONDS))[0]:
            (word, number, *_), received = heard
            if word == b"failed":
                raise OSError(int(number), os.strerror(int(number)))
            if word == b"forked" and not received:  # we have no descriptor left for it
                os.kill(int(number), signal.SIGKILL)
                raise OSError("no descriptor is left for a worker")
            if word == b"forked":
                return Forked(self, int(number), received[0])
        if self._process.poll() is not None:
            raise ProcessLookupError("the process that forks workers is gone")
        self._silent = True
        raise TimeoutError(f"the process that forks workers did not answer for {_ANSWER_SECONDS:g} seconds")

    def exit_code(self, pid: int) -> int:
        """Of a child that has ended. Where the template has gone, it was killed."""
        while pid not in self._codes and self._hear(_CODE_SECONDS)[0]:
            pass
        return self._codes.pop(pid, _UNKNOWN if self._process.poll() is None else -signal.SIGKILL)

    def _hear(self, seconds: float) -> tuple[list[bytes], list[int]]:
        """The words of its next message and the descriptors with it; no words where it says nothing within `seconds`, or is gone."""
        try:
            if not wait([self._line], seconds):
                return [], []
            said, received, _, _ = socket.recv_fds(self._line, _MOST_SAID, 1)
        except (OSError, ValueError):  # closed
            return [], []
        words = said.split()
        if words[:1] == [b"ended"]:
            self._codes[int(words[1])] = int(words[2])
        return words, received

    def close(self) -> None:
        """End it; what it has forked ends with it, where that is still there."""
        self._line.close()
        if self._up:  # or else it has no children, and imports
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_LAST_SECONDS)
        self._process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_LAST_SECONDS)
        if self._death >= 0:
            os.close(self._death)
            self._death = -1


class Forked:
    """A child of a template: what a Worker asks of its process. `pidfd` is the caller's to duplicate, not to close."""

    def __init__(self, template: Template, pid: int, pidfd: int) -> None:
        self.pid, self.pidfd = pid, pidfd
        self.exitcode: int | None = None
        self._template = template

    def is_alive(self) -> bool:
        self.join(0.0)
        return self.exitcode is None

    def join(self, timeout: float) -> None:
        if self.exitcode is None and wait([self.pidfd], timeout):
            self.exitcode = self._template.exit_code(self.pid)
            os.close(self.pidfd)

    def kill(self) -> None:
        if self.exitcode is None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)


class Templates:
    """The template of a pool: begun when it is first needed, and begun anew where it was lost.

    Where one after another does not come up, or one does not answer, it is done without: what is wrong, a worker that is started by itself
    will say.
    """

    def __init__(self, module: str, environment: Mapping[str, str], boot_seconds: float) -> None:
        self._environment = dict(environment)
        self._module, self._boot_seconds = module, boot_seconds
        self._template: Template | None = None
        self._losses = 0

    def begin(self) -> None:
        """See to it that there is one, soon."""
        if self._template is None and self._losses < MAX_LOSSES:
            self._template = Template(self._module, self._environment, self._boot_seconds)

    def look(self) -> None:
        """Take note of what has become of it, so that nobody is woken for that again."""
        if self._template is not None and self._template.state == "gone":
            self._losses = 0 if self._template.was_up else self._losses + 1
            self.close()

    def ready(self) -> bool:
        """Whether a worker may be started now, from `template` or without. Where there is none yet, it is begun."""
        self.look()
        self.begin()
        return self._template is None or self._template.state in ("up", "silent")

    @property
    def template(self) -> Template | None:
        """That which is up; None where workers have to be started without."""
        return self._template if self._template is not None and self._template.state == "up" else None

    @property
    def waitables(self) -> Sequence[int]:
        return self._template.waitables if self._template is not None else ()

    def close(self) -> None:
        if self._template is not None:
            self._template.close()
            self._template = None


# The template's own side


def serve(line_fd: int, module: str, parent: int) -> None:
    """Import `module`, and fork whatever is asked for on the socket `line_fd`, until its other end is closed."""
    os.setpgid(0, 0)  # what is sent to the daemon's group (Ctrl-C, `timeout`) is the daemon's to act on
    die_with(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # it may have been ignored where we come from, and then nobody's end can be waited for
    line = socket.socket(fileno=line_fd)
    os.set_inheritable(line_fd, False)
    importlib.import_module(module)
    sys.stdout.flush()  # or each child would say it again
    gc.collect()
    gc.freeze()  # a collection in a child shall not copy what they share
    children: dict[int, int] = {}  # pids by pidfds
    with contextlib.suppress(ConnectionError):
        line.send(b"up")
        while True:
            for ready in wait([line, *children]):
                if isinstance(ready, int):
                    pid = children.pop(ready)
                    os.close(ready)
                    line.send(b"ended %d %d" % (pid, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])))
                    continue
                asked, descriptors, _, _ = socket.recv_fds(line, _MOST_SAID, _MOST_DESCRIPTORS)
                if not asked:
                    return
                _answer(line, children, asked, descriptors)


def _answer(line: socket.socket, children: dict[int, int], asked: bytes, descriptors: Sequence[int]) -> None:
    """Fork, and hand over the child; or say why that cannot be done: the other children have no part in it."""
    pid = 0
    try:
        pid = _fork(line, children, asked, descriptors)
        pidfd = os.pidfd_open(pid)
    except OSError as e:
        if pid:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        line.send(b"failed %d" % (e.errno or 0))
    else:
        children[pidfd] = pid
        socket.send_fds(line, [b"forked %d" % pid], [pidfd])
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def _fork(line: socket.socket, pidfds: Iterable[int], asked: bytes, descriptors: Sequence[int]) -> int:
    template = os.getpid()
    if pid := os.fork():
        return pid
    code = 1
    try:
        line.close()
        for pidfd in pidfds:
            os.close(pidfd)
        for descriptor in descriptors:
            os.set_inheritable(descriptor, False)
        main, arguments = pickle.loads(asked)  # noqa: S301 (it comes from the daemon, as what multiprocessing sends)
        main(*arguments, descriptors, template)
        code = 0
    except SystemExit as e:
        code = e.code if isinstance(e.code, int) else int(e.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        atexit._run_exitfuncs()
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)  # without taking an interpreter down that knows torch: that takes half a second
