"""The other end of the writer: starts it, hands it descriptors, and gets inspections."""

from __future__ import annotations

import contextlib
import resource
import select
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence

import msgspec

from fifomark.core.errors import InternalError
from fifomark.sandbox.enter import Strictness
from fifomark.sanitizer import launching, messages
from fifomark.sanitizer.launching import PROGRAM
from fifomark.sanitizer.messages import Answer, Greeting, Item, Request

_START_SECONDS = 60.0
_OPEN_FILES = 60  # that any process of ours may have besides what it works on


class Lost(Exception):
    """The writer died, or took longer than it may: `overdue`."""

    def __init__(self, overdue: bool) -> None:
        super().__init__()
        self.overdue = overdue


class WriterClient:
    """Owns one writer, and with it a parser server. For one thread: the writer lives no longer than the one that made it."""

    def __init__(self, sandbox: Strictness = "auto", program: str = PROGRAM, files: int = 1) -> None:
        """See launching.launch. `files`: how many a request may be about."""
        self._sandbox, self._program, self._files = sandbox, program, files
        self._process: subprocess.Popen[bytes] | None = None
        self._line: socket.socket | None = None
        self._greeted = False
        self._killed = False  # the last one, by somebody, while it started
        self._asked = 0  # requests that are not answered yet
        self.greeting = Greeting()  # once a writer was started

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    @property
    def _alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> socket.socket:
        """The line to a living writer. InternalError where none can be started."""
        while True:
            line, process = self.launch()
            if self._heard_from(line, process):
                return line

    def launch(self) -> tuple[socket.socket, subprocess.Popen[bytes]]:
        """The same without waiting until it is ready, which takes a tenth of a second. It may be asked for something at once."""
        if self._line is not None and self._process is not None and self._alive:
            return self._line, self._process
        self.close()
        _check_limits(self._files)
        self._process, self._line = launching.launch(self._program, self._sandbox)
        return self._line, self._process

    def _heard_from(self, line: socket.socket, process: subprocess.Popen[bytes]) -> bool:
        """Wait for the greeting. False where somebody killed the writer while it started, for the first time in a row."""
        if self._greeted:
            return True
        assert process.stderr is not None
        killed = False
        with process.stderr:
            try:
                _await(line, time.monotonic() + _START_SECONDS)
                self.greeting = msgspec.json.decode(messages.receive(line)[0], type=Greeting)
                trouble = self.greeting.trouble
            except (messages.Gone, Lost, OSError, msgspec.DecodeError):
                process.kill()
                said = process.stderr.read().decode(errors="replace").strip()
                trouble, killed = said.splitlines()[-1] if said else "it says nothing", not said
        self._greeted = trouble is None
        if trouble is not None:
            self.close()
            if self._killed or not killed:
                raise InternalError(f"the writer cannot be started: {trouble}")
        self._killed = killed
        return self._greeted

    def send(self, request: Request, fds: Sequence[int]) -> None:
        """Ask for something, be the writer ready or not. Lost where it is, and with it all that it was asked before; the next call starts
        another. InternalError as from `start`, here or once an answer is awaited."""
        if self._asked and not self._alive:
            self.close()
            raise Lost(overdue=False)
        line, _ = self.launch()
        with self._at_stake():
            self._asked += 1
            try:
                messages.send(line, msgspec.json.encode(request), fds)
            except OSError:
                if self._greeted:  # else `receive` hears why it could not start
                    raise

    def receive(self, request: Request, seconds: float) -> Iterator[Answer]:
        """The answers to the earliest request that has none yet, one for each item, as they come. Lost where none comes for `seconds`."""
        left = list(request.items)
        while left:
            answers = self._received(left, seconds)
            del left[: len(answers)]
            if not left:
                self._asked -= 1
            yield from answers

    def _received(self, items: Sequence[Item], seconds: float) -> list[Answer]:
        """The next answers, to the first of the items."""
        if self._line is None or self._process is None or not self._heard_from(self._line, self._process):
            raise Lost(overdue=False)
        with self._at_stake():
            _await(self._line, time.monotonic() + seconds)
            answers = msgspec.json.decode(messages.receive(self._line)[0], type=list[Answer])
            if not 0 < len(answers) <= len(items) or not all(map(_fits, items, answers)):
                raise Lost(overdue=False)
            return answers

    @contextlib.contextmanager
    def _at_stake(self) -> Iterator[None]:
        """Ends the writer where anything goes wrong, be it from outside: an answer must not be taken for that to the next request."""
        try:
            yield
        except BaseException as e:
            self.close(kill=True)
            if isinstance(e, (messages.Gone, OSError, msgspec.DecodeError)):
                raise Lost(overdue=False) from e
            raise

    def close(self, *, kill: bool = False) -> None:
        """End the writer; with `kill` at once, else it ends by itself."""
        if self._line is not None:
            self._line.close()
        if self._process is not None:
            if kill:
                self._process.kill()
            try:
                self._process.wait(timeout=5.0)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            if self._process.stderr is not None:
                self._process.stderr.close()
        self._process = self._line = None
        self._greeted, self._asked = False, 0


def _fits(item: Item, answer: Answer) -> bool:
    if answer.inspection is None:
        return answer.trouble is not None
    return answer.trouble is None and answer.inspection.path == item.path


def _await(line: socket.socket, until: float) -> None:
    poll = select.poll()
    poll.register(line, select.POLLIN)
    if not poll.poll(max(0.0, until - time.monotonic()) * 1000):
        raise Lost(overdue=True)


def _check_limits(files: int) -> None:
    """What cannot be had with less is said here: it would come up somewhere in the middle of a file."""
    needed = 4 * files + _OPEN_FILES  # two requests at once, about files and their clean files
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if allowed != resource.RLIM_INFINITY and allowed < needed:
        raise InternalError(f"only {allowed} files may be open at once here, too few to work with: raise that limit (ulimit -n {needed})")
