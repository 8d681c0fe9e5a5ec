"""A process that has imported what workers need, and forks them: to import torch takes seconds and hundreds of megabytes, to fork takes
milliseconds. So all slots of the CPU are ready as soon as one is, and a worker that was killed is replaced at once.

Workers of GPUs are not forked (workers.process): what a driver has set up does not survive that.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import multiprocessing
import os
import pickle
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from multiprocessing.connection import wait
from typing import Any, Literal

from fifomark.workers.tether import die_with

Main = Callable[..., None]  # called with what `fork` was given, its own copies of the descriptors, and the pid of the template

_MOST_SAID, _MOST_DESCRIPTORS = 1 << 16, 8  # of a message, in bytes
MAX_LOSSES = 3  # templates in a row that did not come up, after which workers are started without
_ANSWER_SECONDS = 10.0  # that a fork may take
_LAST_SECONDS = 2.0  # that it may take to end once we have hung up


class Template:
    """The daemon's side. It dies with the thread that made it, and all that it has forked dies with it."""

    def __init__(self, module: str, environment: Mapping[str, str], boot_seconds: float) -> None:
        """Begins to import `module` under `environment`, and does not wait for that; `boot_seconds` is what it may take."""
        self.environment = dict(environment)
        self._line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        context = multiprocessing.get_context("spawn")
        with theirs:
            what = (theirs, module, self.environment, os.getpid())
            self._process = context.Process(target=_serve, args=what, name="fifomark template", daemon=True)
            self._process.start()
        self._until = time.monotonic() + boot_seconds
        self._up = False
        self._codes: dict[int, int] = {}  # of children that have ended, by pid, until they are asked for

    @property
    def was_up(self) -> bool:
        return self._up

    @property
    def state(self) -> Literal["starting", "up", "gone"]:
        """Never waits."""
        while not self._up and (said := self._hear(0.0)[0]):
            self._up = said == [b"up"]
        if not self._process.is_alive() or (not self._up and time.monotonic() > self._until):
            return "gone"
        return "up" if self._up else "starting"

    @property
    def waitables(self) -> Sequence[int]:
        """What becomes ready when it is up, or is gone before that."""
        return () if self._up else (self._line.fileno(), self._process.sentinel)

    def fork(self, main: Main, arguments: Sequence[Any], descriptors: Sequence[int]) -> Forked:
        """A process that runs `main`, found as pickle finds it. ProcessLookupError where the template does not do that any more."""
        with contextlib.suppress(OSError):
            socket.send_fds(self._line, [pickle.dumps((main, arguments))], descriptors)
            while (heard := self._hear(_ANSWER_SECONDS))[0]:
                (word, pid, *_), received = heard
                if word == b"forked":
                    return Forked(self, int(pid), received[0])
        self._process.kill()
        raise ProcessLookupError("the process that forks workers is gone")

    def exit_code(self, pid: int) -> int:
        """Of a child that has ended. Where the template has gone, it was killed."""
        while pid not in self._codes and self._hear(_ANSWER_SECONDS)[0]:
            pass
        return self._codes.pop(pid, -signal.SIGKILL)

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
        self._process.join(_LAST_SECONDS)
        self._process.kill()
        self._process.join(_LAST_SECONDS)


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

    Where one after another does not come up, it is done without: what is wrong, a worker that is started by itself will say.
    """

    def __init__(self, module: str, environment: Mapping[str, str], boot_seconds: float) -> None:
        self.environment = dict(environment)
        self._module, self._boot_seconds = module, boot_seconds
        self._template: Template | None = None
        self._losses = 0

    def begin(self) -> None:
        """See to it that there is one, soon."""
        if self._template is None and self._losses < MAX_LOSSES:
            self._template = Template(self._module, self.environment, self._boot_seconds)

    def ready(self) -> bool:
        """Whether a worker may be started now, from `template` or without. Where there is none yet, it is begun."""
        if self._template is not None and self._template.state == "gone":
            self._losses = 0 if self._template.was_up else self._losses + 1
            self.close()
        self.begin()
        return self._template is None or self._template.state == "up"

    @property
    def template(self) -> Template | None:
        return self._template

    @property
    def waitables(self) -> Sequence[int]:
        return self._template.waitables if self._template is not None else ()

    def close(self) -> None:
        if self._template is not None:
            self._template.close()
            self._template = None


# The template's own side


def _serve(line: socket.socket, module: str, environment: Mapping[str, str], parent: int) -> None:
    os.setpgid(0, 0)  # what is sent to the daemon's group (Ctrl-C, `timeout`) is the daemon's to act on
    die_with(parent)
    os.environ.update(environment)
    importlib.import_module(module)
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
                pid = _fork(line, children, asked, descriptors)
                pidfd = os.pidfd_open(pid)
                children[pidfd] = pid
                socket.send_fds(line, [b"forked %d" % pid], [pidfd])


def _fork(line: socket.socket, pidfds: Iterable[int], asked: bytes, descriptors: Sequence[int]) -> int:
    template = os.getpid()
    if pid := os.fork():
        for descriptor in descriptors:
            os.close(descriptor)
        return pid
    code = 1
    try:
        line.close()
        for pidfd in pidfds:
            os.close(pidfd)
        for descriptor in descriptors:
            os.set_inheritable(descriptor, False)
        atexit._clear()  # those are the template's
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
