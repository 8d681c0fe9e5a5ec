"""Requests to the daemon: files that the command line moves into control/, each answered by a file beside it."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
import time
from collections.abc import Iterator

import msgspec

from fifomark.core.requests import Answer, Request
from fifomark.spool.layout import REQUEST, Layout
from fifomark.spool.moves import publishing, write_all

_ANSWER = ".answer"
_MAX_BYTES = 4 << 20
_LOOK_SECONDS = 0.02


def ask(layout: Layout, request: Request, seconds: float) -> Answer | None:
    """The daemon's answer; None where none came within `seconds`, and then the request is taken back."""
    path = os.path.join(layout.folder("control"), secrets.token_hex(8) + REQUEST)
    with publishing(path, durable=False) as fd:
        write_all(fd, msgspec.json.encode(request))
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with contextlib.suppress(FileNotFoundError):
            return _answer(path)
        time.sleep(_LOOK_SECONDS)
    try:
        os.unlink(path)
    except FileNotFoundError:  # taken at the last instant: its answer is about to come
        time.sleep(1.0)
        with contextlib.suppress(FileNotFoundError):
            return _answer(path)
    return None


def _answer(path: str) -> Answer:
    with open(path + _ANSWER, "rb") as file:
        answer = msgspec.json.decode(file.read(), type=Answer)
    os.unlink(path + _ANSWER)
    return answer


def pending(layout: Layout) -> Iterator[tuple[str, Request]]:
    """What was asked and not answered yet, with its path. What is no request is removed."""
    control = layout.folder("control")
    for name in sorted(name for name in os.listdir(control) if name.endswith(REQUEST) and not name.startswith(".")):
        path = os.path.join(control, name)
        try:
            yield path, msgspec.json.decode(_body(path), type=Request)
        except FileNotFoundError:
            continue
        except (OSError, msgspec.DecodeError):
            with contextlib.suppress(OSError):
                os.unlink(path)


def answer(path: str, said: Answer) -> None:
    """Answer the request at `path`, which is done with."""
    with publishing(path + _ANSWER, durable=False) as fd:
        write_all(fd, msgspec.json.encode(said))
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def forget_answers(layout: Layout) -> None:
    """Remove answers that nobody came for; for the start of a daemon."""
    control = layout.folder("control")
    for name in os.listdir(control):
        if name.endswith(_ANSWER):
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(control, name))


def _body(path: str) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(f"{path}: no file")
        return file.read(_MAX_BYTES)
