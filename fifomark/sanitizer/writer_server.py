"""The writer: judges what the parser describes, reads the weights, and writes clean files. It reads no structure of any file.

A process of its own that locks itself down before its first request: it can open no path, no socket and no program. Files come to it as
open descriptors, and only what it is handed for writing can it write to. Its parser server is started before that, and dies with it.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import resource
import select
import signal
import socket
import time
from collections import deque
from typing import NamedTuple

import msgspec

from fifomark.core.errors import InternalError
from fifomark.core.policy import Limits
from fifomark.sandbox.enter import WRITING, InForce, Strictness, enter
from fifomark.sanitizer import messages
from fifomark.sanitizer.batch import MAX_FILES
from fifomark.sanitizer.messages import Answer, Greeting, Request
from fifomark.sanitizer.parser_client import Asked, ParserClient
from fifomark.sanitizer.parser_process import Server
from fifomark.sanitizer.parser_server import clamped, ignore_stops
from fifomark.torchfile import sample

_PR_SET_PDEATHSIG = 1
_DATA_BYTES = 1 << 30  # memory of its own: the longest description takes a third of it, the weights of any file a tenth
_SMALL = 16 << 20  # bytes of all files of a request
_AHEAD = 2  # requests are taken at once, the one that is being answered among them
_SOME = 40  # answers are worth a message: whoever asked goes on with them meanwhile
_LATE = 0.5  # seconds for which an answer may wait for others


def main(control_fd: int, sandbox: Strictness = "auto", forked: tuple[int, socket.socket] | None = None) -> None:
    """Serve requests on the stream socket `control_fd` until its other end is closed. Ends as well when its parser server is lost.

    `forked` is that server (see parser_server.fork), where it is on its way already.
    """
    ignore_stops()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    control = socket.socket(fileno=control_fd)
    parser = ParserClient(sandbox=sandbox, forked=Server(*forked) if forked is not None else None)
    try:
        source = sample.opened()
        asked = parser.ask([source], Limits())
        # What is there already the parser reads while we get ready, which takes a while.
        taken: deque[_Taken] = deque()
        _take_ahead(control, parser, taken)
        # From here, not from deep in other imports: CPython keeps frames in pieces of 16 kB, and what is called again and again on the edge
        # of one maps and unmaps a piece each time.
        import numpy  # noqa: F401

        _take_ahead(control, parser, taken)
        from fifomark.sanitizer import answering

        (seen,) = parser.told(asked)
        answering.warm_up(source, seen)
        os.close(source)
        greeting = Greeting(parser=parser.in_force, writer=_locked_down(sandbox))
    except messages.Gone:
        return
    except (InternalError, OSError) as e:
        messages.send(control, msgspec.json.encode(Greeting(trouble=str(e))))
        return
    gc.freeze()
    gc.enable()
    messages.send(control, msgspec.json.encode(greeting))
    with contextlib.suppress(messages.Gone, OSError, InternalError):  # the last: the parser is lost, and we cannot start another
        _serve(control, parser, taken)
    os._exit(0)  # nothing is left to be tidied up, and somebody waits for our end


class _Taken(NamedTuple):
    """A request, its descriptors, and what the parser was asked about it."""

    request: Request
    fds: list[int]
    asked: Asked
    small: bool  # whether nobody who is read meanwhile has to wait long for being heard


def _serve(control: socket.socket, parser: ParserClient, taken: deque[_Taken]) -> None:
    """Answer requests in their order, those that are `taken` first. The parser reads what comes next while we read the weights of small
    files."""
    while True:
        if not taken:
            taken.append(_take(control, parser))
        _answer(control, parser, taken)


def _answer(control: socket.socket, parser: ParserClient, taken: deque[_Taken]) -> None:
    """Answer the first request: some of it at once, fewer where that takes its time."""
    from fifomark.sanitizer.answering import answered

    request, fds, asked, _ = taken[0]
    answers: list[Answer] = []
    sent = time.monotonic()

    def send() -> None:
        nonlocal sent
        if answers:
            messages.send(control, msgspec.json.encode(answers))
            answers.clear()
            sent = time.monotonic()

    for done, answer in enumerate(answered(request, fds, parser.told(asked, idle=send)), 1):
        answers.append(answer)
        _take_ahead(control, parser, taken)
        if done < len(request.items) and (len(answers) == _SOME or time.monotonic() - sent > _LATE):
            send()
    taken.popleft()
    for fd in fds:
        os.close(fd)
    messages.send(control, msgspec.json.encode(answers))


def _take(control: socket.socket, parser: ParserClient) -> _Taken:
    body, fds = messages.receive(control)
    request = msgspec.json.decode(body, type=Request)
    asked = parser.ask([fd for fd, _ in messages.handed(request, fds)], request.limits)
    return _Taken(request, fds, asked, small=sum(item.version.size for item in request.items) <= _SMALL)


def _take_ahead(control: socket.socket, parser: ParserClient, taken: deque[_Taken]) -> None:
    """Let the parser begin with what is there already."""
    while len(taken) < _AHEAD and (not taken or taken[0].small) and _readable(control):
        taken.append(_take(control, parser))


def _readable(control: socket.socket) -> bool:
    poll = select.poll()
    poll.register(control, select.POLLIN)
    return bool(poll.poll(0))


def _locked_down(sandbox: Strictness) -> InForce:
    for what, value in (
        (resource.RLIMIT_DATA, _DATA_BYTES),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 2 * _AHEAD * MAX_FILES + 32),
    ):
        resource.setrlimit(what, (clamped(what, value),) * 2)
    return enter(WRITING, sandbox)
