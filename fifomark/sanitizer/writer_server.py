"""The writer: judges what the parser describes, reads the weights, and writes clean files. It reads no structure of any file.

A process of its own that locks itself down before its first request: it can open no path, no socket and no program. Files come to it as
open descriptors, and only what it is handed for writing can it write to. Its parser server is started before that, and dies with it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import select
import signal
import socket
import traceback
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec

from fifomark.core.errors import InternalError
from fifomark.core.findings import Finding
from fifomark.core.policy import Limits, Policy
from fifomark.core.text import shown
from fifomark.sandbox.enter import WRITING, InForce, Strictness, enter
from fifomark.sanitizer import messages
from fifomark.sanitizer.inspecting import OpenFile, Target, inspect
from fifomark.sanitizer.messages import Answer, Greeting, Item, Request, Trouble
from fifomark.sanitizer.opening import version_of
from fifomark.sanitizer.parser_client import Asked, ParserClient
from fifomark.torchfile.description import Description
from fifomark.torchfile.sample import sample
from fifomark.torchfile.views import write_all

_PR_SET_PDEATHSIG = 1
_DATA_BYTES = 4 << 30  # memory of its own: a description takes some, the weights never do
_SMALL = 16 << 20  # bytes of all files of a request


def main(control_fd: int, sandbox: Strictness = "auto") -> None:
    """Serve requests on the stream socket `control_fd` until its other end is closed. Ends as well when its parser server is lost."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for whoever started us; we end when they do
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    control = socket.socket(fileno=control_fd)
    parser = ParserClient(sandbox=sandbox)
    try:
        parser.start()
        _warm_up(parser)
        greeting = Greeting(parser=parser.in_force, writer=_locked_down(sandbox))
    except (InternalError, OSError) as e:
        messages.send(control, msgspec.json.encode(Greeting(trouble=str(e))))
        return
    messages.send(control, msgspec.json.encode(greeting))
    with contextlib.suppress(messages.Gone, OSError, InternalError):  # the last: the parser is lost, and we cannot start another
        _serve(control, parser)


class _Taken(NamedTuple):
    """A request, its descriptors, and what the parser was asked about it."""

    request: Request
    fds: list[int]
    asked: Asked


def _serve(control: socket.socket, parser: ParserClient) -> None:
    """Answer requests in their order. The parser reads what comes next while we read the weights of small files."""
    taken = _take(control, parser)
    while True:
        seen = parser.told(taken.asked)
        ahead = _take(control, parser) if _is_small(taken.request) and _readable(control) else None
        answers = answered(taken.request, taken.fds, seen)
        for fd in taken.fds:
            os.close(fd)
        messages.send(control, msgspec.json.encode(answers))
        taken = ahead or _take(control, parser)


def _take(control: socket.socket, parser: ParserClient) -> _Taken:
    body, fds = messages.receive(control)
    request = msgspec.json.decode(body, type=Request)
    return _Taken(request, fds, parser.ask([fd for fd, _ in _handed(request, fds)], request.limits))


def _is_small(request: Request) -> bool:
    """Whether nobody who is read meanwhile has to wait long for being heard."""
    return sum(item.version.size for item in request.items) <= _SMALL


def _readable(control: socket.socket) -> bool:
    poll = select.poll()
    poll.register(control, select.POLLIN)
    return bool(poll.poll(0))


def _handed(request: Request, fds: Sequence[int]) -> list[tuple[int, Target | None]]:
    """The descriptors of each item."""
    rest = iter(fds)
    return [(next(rest), Target(next(rest), request.format) if item.write else None) for item in request.items]


def answered(request: Request, fds: Sequence[int], seen: Sequence[Description | Finding]) -> list[Answer]:
    """One answer for each item of the request, of which the parser says what was `seen`."""
    handed = zip(request.items, _handed(request, fds), seen, strict=True)
    return [_answer(item, fd, target, one, request) for item, (fd, target), one in handed]


def _answer(item: Item, fd: int, target: Target | None, seen: Description | Finding, request: Request) -> Answer:
    file = OpenFile(fd, item.path, item.version, item.findings)
    try:
        return Answer(inspection=inspect(file, seen, request.policy, request.limits, target))
    except OSError as e:
        return Answer(trouble=Trouble(errno=e.errno, message=e.strerror or str(e)))
    except Exception:
        # What is wrong with a file is a value by now; what is raised here is a bug of ours.
        return Answer(trouble=Trouble(errno=None, message=shown(traceback.format_exc(limit=-3), 2000)))


def _locked_down(sandbox: Strictness) -> InForce:
    for what, value in (
        (resource.RLIMIT_DATA, _DATA_BYTES),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 256),
    ):
        hard = resource.getrlimit(what)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(what, (value, value))
    return enter(WRITING, sandbox)


def _warm_up(parser: ParserClient) -> None:
    """Once the whole way: what is imported on it cannot be imported any more once no path can be opened."""
    shown("\x1b")  # the codec that escapes
    with _memory() as source, _memory() as pt, _memory() as safetensors:
        write_all(source, sample())
        file = OpenFile(source, "warm-up.pt", version_of(os.fstat(source)))
        for target in (Target(pt), Target(safetensors, "safetensors")):
            seen = inspect(file, parser.describe([source], Limits())[0], Policy(), Limits(), target)
            assert seen.clean is not None, seen.findings


@contextlib.contextmanager
def _memory() -> Iterator[int]:
    fd = os.memfd_create("fifomark-warm-up")
    try:
        yield fd
    finally:
        os.close(fd)
