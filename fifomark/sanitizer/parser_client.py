"""The other end of the parser server: starts it, hands it descriptors, and takes its descriptions for what they are, claims."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence

import msgspec

from fifomark.core.catalogue import find
from fifomark.core.errors import InternalError
from fifomark.core.findings import Finding
from fifomark.core.policy import Limits
from fifomark.core.record import Record
from fifomark.sandbox.enter import InForce, Strictness
from fifomark.sanitizer.batch import MAX_FILES
from fifomark.sanitizer.parser_process import ANSWER_BYTES, PROGRAM, Server, readable, received, spawned
from fifomark.sanitizer.parser_server import GAVE_UP, LENGTH_BYTES, READY
from fifomark.torchfile.description import Description, decode

_START_SECONDS = 30.0
_GRACE_SECONDS = 5.0  # that the server may be late with its own clock
_KEPT = 4  # requests are under way at once, at most
_AT_ONCE = 1 << 20  # bytes read from a pipe
_SOON = 0.05  # seconds in which a small file is described
_WHOLE = 0.9  # of the time that a file may take: a child's files before this one took the rest
_LOST = find("FM208", "the file", "the parser's server was lost twice while it read the file")


class _Ended(Record):
    """How a child ended: see server.main."""

    code: int
    overdue: bool


class Asked:
    """Files whose descriptions will come through `pipe`, None where they were put aside for others that are read again. `number` is the
    request's among those to this server."""

    __slots__ = ("fds", "limits", "number", "pipe", "server")

    def __init__(self, fds: Sequence[int], limits: Limits, pipe: int, number: int, server: Server) -> None:
        self.fds, self.limits, self.number, self.server = fds, limits, number, server
        self.pipe: int | None = pipe


def _nothing() -> None:
    pass


class ParserClient:
    """Owns one parser server, and starts another when it has died. For one thread: the server lives no longer than the one that made it."""

    def __init__(self, program: str = PROGRAM, sandbox: Strictness = "auto", forked: Server | None = None) -> None:
        """`program` is Python, formatted with the folder that holds fifomark as `root`, the server's socket as `fd`, and `sandbox`.
        `forked` is the first server, where that is on its way already."""
        self._program, self._sandbox = program, sandbox
        self.in_force = InForce(0, False)  # once a server was started
        self._server = forked
        self._ready = False  # whether the server has greeted us
        self._killed = False  # the last one, by somebody, while it started
        self._asked = 0  # requests to this server
        self._heard = 0  # how many of them it has said the end of; the last few are kept
        self._ends: deque[bytes] = deque(maxlen=_KEPT)
        self._waiting: list[Asked] = []  # for being told

    def start(self) -> None:
        """Wait until there is a server, and it is ready. InternalError where none can be started."""
        while not self._heard_from(self.launch()):
            pass

    def launch(self) -> Server:
        """A living server, be it ready or not: it may be asked for something at once. InternalError where none can be started."""
        if self._server is not None and self._server.alive:
            return self._server
        self.close()
        self._server = spawned(self._program, self._sandbox)
        return self._server

    def _heard_from(self, server: Server) -> bool:
        """Wait until the server is ready. From then on it has nobody to write to but us.

        False where somebody killed it while it started, for the first time in a row.
        """
        if self._ready:
            return True
        with server.stderr or contextlib.nullcontext() as stderr:
            greeting = received(server.control, time.monotonic() + _START_SECONDS)
            if greeting.startswith(READY):
                self.in_force = InForce(*msgspec.json.decode(greeting.removeprefix(READY), type=tuple[int, bool]))
                self._ready, self._killed = True, False
                return True
            server.kill()
            said = (greeting or (stderr.read(ANSWER_BYTES) if stderr is not None else b"")).decode(errors="replace").strip()
        self.close()
        if not said and not self._killed:
            self._killed = True
            return False
        raise InternalError(f"the parser cannot be started: {said.splitlines()[-1] if said else 'it says nothing'}")

    def describe(self, fds: Sequence[int], limits: Limits) -> list[Description | Finding]:
        """What the parser says of the files open at `fds`, at most MAX_FILES, all read by one child.

        A finding where it died, took too long, or said nonsense. A child of many that ends early is no word on those that it left: each
        of them is read again, by a child of its own, but for one that had all the time that a file may take.
        """
        return list(self.told(self.ask(fds, limits)))

    def ask(self, fds: Sequence[int], limits: Limits) -> Asked:
        """Let the parser begin, once it is done with what it was asked before. What it says is asked for by `told`, in the order of the
        asking, and soon: a description that nobody reads takes its child's time."""
        asked = self._ask(fds, limits)
        self._waiting.append(asked)
        return asked

    def _ask(self, fds: Sequence[int], limits: Limits) -> Asked:
        assert 0 < len(fds) <= MAX_FILES
        server = self.launch()
        while self._ready and self._heard < self._asked and self._hear(server, 0.0):
            pass  # the server stops where nobody ever takes what it says
        reading, writing = os.pipe2(os.O_CLOEXEC)
        if len(fds) > 1:
            with contextlib.suppress(OSError):  # as large as it may be: it need not wait for us
                fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, _AT_ONCE)
        with contextlib.suppress(OSError):  # the server is gone: the pipe says nothing, and `told` sees to it
            socket.send_fds(server.control, [_request(limits)], [*fds, writing])
        os.close(writing)
        self._asked += 1
        return Asked(fds, limits, reading, self._asked, server)

    def told(self, asked: Asked, idle: Callable[[], None] = _nothing) -> Iterator[Description | Finding]:
        """What is said of each file, in their order, as it comes; see `describe`. `idle` is called where the next one takes its time.
        InternalError where no server can be started."""
        self._waiting.remove(asked)
        if asked.pipe is None:
            return self._once_more(asked.fds, asked.limits, idle, last=False)
        return self._told(asked, asked.pipe, idle, last=False)

    def _told(self, asked: Asked, pipe: int, idle: Callable[[], None], *, last: bool) -> Iterator[Description | Finding]:
        """What was killed from outside, perhaps, is asked once more, unless this is the `last` time: no honest file is refused for that."""
        fds, limits = asked.fds, asked.limits
        said, done = _Said(pipe, len(fds), limits, idle), 0
        try:
            if self._server is asked.server:
                self._heard_from(asked.server)
            while done < len(fds) and (body := said.next()) is not None:
                done += 1
                yield _understood(body)
        except BaseException:
            self.close(kill=True)  # interrupted in the middle
            raise
        finally:
            os.close(pipe)
        if done == len(fds):
            return  # how its child ended need not be known; the server says it all the same
        ended = self._ended(asked)
        if len(fds) > 1:
            if ended is not None and ended.overdue and said.waited >= _WHOLE * limits.parse_seconds:
                yield _failed(ended, said.rest, limits)
                done += 1
            for fd in fds[done:]:
                yield from self._once_more([fd], limits, idle, last=False)
        elif last or not (ended is None or _was_killed(ended)):
            yield _LOST if ended is None else _failed(ended, said.rest, limits)
        else:
            yield from self._once_more(fds, limits, idle, last=True)

    def _once_more(self, fds: Sequence[int], limits: Limits, idle: Callable[[], None], *, last: bool) -> Iterator[Description | Finding]:
        """They go first: meanwhile nobody takes what is said of other files, so that these would wait for the others' whole time."""
        for other in self._waiting:
            if other.pipe is not None:
                os.close(other.pipe)  # which ends its child
                other.pipe = None
        asked = self._ask(fds, limits)
        assert asked.pipe is not None
        return self._told(asked, asked.pipe, idle, last=last)

    def _ended(self, asked: Asked) -> _Ended | None:
        """How the child ended that was asked; None where its server is lost."""
        if self._server is not asked.server:
            return None
        until = time.monotonic() + asked.limits.parse_seconds + _GRACE_SECONDS
        while self._heard < asked.number and self._hear(asked.server, until):
            pass
        if self._heard - _KEPT < asked.number <= self._heard:
            with contextlib.suppress(msgspec.DecodeError):
                return msgspec.json.decode(self._ends[asked.number - self._heard - 1], type=_Ended)
        self.close(kill=True)
        return None

    def _hear(self, server: Server, until: float) -> bool:
        """Take the server's next word on how a child ended, where it comes in time."""
        answer = received(server.control, until)
        if answer:
            self._ends.append(answer)
            self._heard += 1
        return bool(answer)

    def close(self, *, kill: bool = False) -> None:
        """End the server; with `kill` at once, else it ends by itself."""
        if self._server is not None:
            self._server.end(0.0 if kill else 2.0)
        self._server = None
        self._ready = False
        self._asked = self._heard = 0
        self._ends.clear()


def _request(limits: Limits) -> bytes:
    budgets = {name: getattr(limits, name) for name in ("pickle_bytes", "inflated_bytes", "description_bytes", "tensors")}
    return msgspec.json.encode({"limits": budgets, "memory_bytes": limits.parse_memory_bytes, "seconds": limits.parse_seconds})


class _Said:
    """What comes through a pipe: descriptions of at most so many bytes, each behind its length. None is empty: behind a length of zero
    stands why the child gave up."""

    def __init__(self, pipe: int, count: int, limits: Limits, idle: Callable[[], None]) -> None:
        self._pipe, self._limit, self._idle = pipe, limits.description_bytes, idle
        self._seconds = limits.parse_seconds + _GRACE_SECONDS
        self._bodies: deque[bytes] = deque()  # that have come whole
        self._came = bytearray()  # behind them
        self._left = count  # that have not
        self.waited = 0.0  # seconds, for the next description
        self._too_long = False

    @property
    def rest(self) -> bytes | None:
        """What came instead of the next description; None where that is too long."""
        return None if self._too_long else bytes(self._came[LENGTH_BYTES:])

    def next(self) -> bytes | None:
        """The next description; None where there is none: it is too long, the pipe ends, or the clock runs out."""
        started = time.monotonic()
        while not self._bodies and not self._too_long:
            part = self._part(started + self._seconds)
            self.waited = time.monotonic() - started
            if not part:
                return None
            self._came += part
            self._sort()
        return self._bodies.popleft() if self._bodies else None

    def _sort(self) -> None:
        """Take the whole descriptions out of what came."""
        at, came = 0, self._came
        while self._left:
            size = int.from_bytes(came[at : at + LENGTH_BYTES], "little")
            end = at + LENGTH_BYTES + size
            if size > self._limit or len(came) - at > self._limit + LENGTH_BYTES + _AT_ONCE:
                self._too_long = True
            if self._too_long or not size or end > len(came):
                break
            self._bodies.append(bytes(came[at + LENGTH_BYTES : end]))
            at, self._left = end, self._left - 1
        del came[:at]

    def _part(self, until: float) -> bytes:
        if not readable(self._pipe, min(until, time.monotonic() + _SOON)):
            self._idle()
        return os.read(self._pipe, _AT_ONCE) if readable(self._pipe, until) else b""


def _understood(body: bytes) -> Description | Finding:
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
