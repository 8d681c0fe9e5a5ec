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
from typing import NamedTuple

import msgspec

from fifomark.core.errors import InternalError
from fifomark.sandbox.enter import WRITING, InForce, Strictness, enter
from fifomark.sanitizer import messages
from fifomark.sanitizer.messages import Answer, Greeting, Request
from fifomark.sanitizer.parser_client import Asked, Forked, ParserClient
from fifomark.sanitizer.parser_server import clamped, ignore_stops

_PR_SET_PDEATHSIG = 1
_DATA_BYTES = 1 << 30  # memory of its own: the longest description takes a third of it, the weights of any file a tenth
_SMALL = 16 << 20  # bytes of all files of a request
_LATE = 0.5  # seconds for which an answer may wait for others


def main(control_fd: int, sandbox: Strictness = "auto", forked: tuple[int, socket.socket] | None = None) -> None:
    """Serve requests on the stream socket `control_fd` until its other end is closed. Ends as well when its parser server is lost.

    `forked` is that server (see parser_server.fork), where it is on its way already.
    """
    ignore_stops()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    control = socket.socket(fileno=control_fd)
    parser = ParserClient(sandbox=sandbox, forked=Forked(*forked) if forked is not None else None)
    try:
        parser.launch()
        from fifomark.sanitizer import answering  # numpy and all: the parser starts meanwhile

        answering.warm_up(parser.describe)
        greeting = Greeting(parser=parser.in_force, writer=_locked_down(sandbox))
    except (InternalError, OSError) as e:
        messages.send(control, msgspec.json.encode(Greeting(trouble=str(e))))
        return
    gc.freeze()
    gc.enable()
    messages.send(control, msgspec.json.encode(greeting))
    with contextlib.suppress(messages.Gone, OSError, InternalError):  # the last: the parser is lost, and we cannot start another
        _serve(control, parser)
    os._exit(0)  # nothing is left to be tidied up, and somebody waits for our end


class _Taken(NamedTuple):
    """A request, its descriptors, and what the parser was asked about it."""

    request: Request
    fds: list[int]
    asked: Asked


def _serve(control: socket.socket, parser: ParserClient) -> None:
    """Answer requests in their order. The parser reads what comes next while we read the weights of small files."""
    taken = _take(control, parser)
    while True:
        taken = _answered(control, parser, taken) or _take(control, parser)


def _answered(control: socket.socket, parser: ParserClient, taken: _Taken) -> _Taken | None:
    """Answer a request: all that it is about at once, unless some of it takes its time. Gives the next one, where that was there early."""
    from fifomark.sanitizer.answering import answered

    answers: list[Answer] = []
    ahead: _Taken | None = None
    sent = time.monotonic()

    def send() -> None:
        nonlocal sent
        if answers:
            messages.send(control, msgspec.json.encode(answers))
            answers.clear()
            sent = time.monotonic()

    for done, answer in enumerate(answered(taken.request, taken.fds, parser.told(taken.asked, idle=send)), 1):
        answers.append(answer)
        if ahead is None and parser.free and _is_small(taken.request) and _readable(control):
            ahead = _take(control, parser)
        if done < len(taken.request.items) and time.monotonic() - sent > _LATE:
            send()
    for fd in taken.fds:
        os.close(fd)
    messages.send(control, msgspec.json.encode(answers))
    return ahead


def _take(control: socket.socket, parser: ParserClient) -> _Taken:
    from fifomark.sanitizer.answering import handed

    body, fds = messages.receive(control)
    request = msgspec.json.decode(body, type=Request)
    return _Taken(request, fds, parser.ask([fd for fd, _ in handed(request, fds)], request.limits))


def _is_small(request: Request) -> bool:
    """Whether nobody who is read meanwhile has to wait long for being heard."""
    return sum(item.version.size for item in request.items) <= _SMALL


def _readable(control: socket.socket) -> bool:
    poll = select.poll()
    poll.register(control, select.POLLIN)
    return bool(poll.poll(0))


def _locked_down(sandbox: Strictness) -> InForce:
    for what, value in (
        (resource.RLIMIT_DATA, _DATA_BYTES),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 512),
    ):
        resource.setrlimit(what, (clamped(what, value),) * 2)
    return enter(WRITING, sandbox)
