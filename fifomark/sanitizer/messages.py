"""What the sanitizer and its writer say to each other: JSON behind its length, over a stream socket, descriptors beside it."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from typing import Literal

from fifomark.core.findings import Finding
from fifomark.core.inspection import Inspection
from fifomark.core.policy import Limits, Policy
from fifomark.core.record import Record
from fifomark.sandbox.enter import InForce
from fifomark.sanitizer.batch import MAX_FILES
from fifomark.sanitizer.opening import Version

LENGTH_BYTES = 8
MAX_MESSAGE = 1 << 30
_MAX_FDS = 2 * MAX_FILES

CleanFormat = Literal["pt", "safetensors"]


class Greeting(Record):
    """The writer's first message: what is in force for the parser and for the writer; or why there can be neither."""

    parser: InForce = InForce(0, False)
    writer: InForce = InForce(0, False)
    trouble: str | None = None


class Item(Record):
    """One file to inspect: the name that its inspection bears, its version when it was opened, and what was found by then.

    With `write`, a descriptor to write the clean file to follows that of the file.
    """

    path: str
    version: Version
    findings: tuple[Finding, ...]
    write: bool


class Request(Record):
    """With the descriptors of its items, in their order."""

    items: tuple[Item, ...]
    policy: Policy
    limits: Limits
    format: CleanFormat


def handed(request: Request, fds: Sequence[int]) -> list[tuple[int, int | None]]:
    """The descriptors of each item: of its file, and of its clean file where it gets one."""
    rest = iter(fds)
    return [(next(rest), next(rest) if item.write else None) for item in request.items]


class Trouble(Record):
    """Why a clean file could not be written: the error of the operating system, or (None) a bug of ours. The file is not to blame."""

    errno: int | None
    message: str


class Answer(Record):
    """One for each item, in their order, in one message or several."""

    inspection: Inspection | None = None
    trouble: Trouble | None = None


class Gone(Exception):
    """The other end is closed."""


def send(line: socket.socket, body: bytes, fds: Sequence[int] = ()) -> None:
    """OSError where the other end is gone."""
    head = len(body).to_bytes(LENGTH_BYTES, "little")
    if fds:
        socket.send_fds(line, [head], fds)
    else:
        line.sendall(head)
    line.sendall(body)


def receive(line: socket.socket) -> tuple[bytes, list[int]]:
    """The next message and its descriptors, which the caller closes. Gone where there is none any more."""
    head, fds, _, _ = socket.recv_fds(line, LENGTH_BYTES, _MAX_FDS, socket.MSG_WAITALL)
    try:
        length = int.from_bytes(head, "little")
        if len(head) < LENGTH_BYTES or length > MAX_MESSAGE:
            raise Gone
        return _exactly(line, length), list(fds)
    except BaseException:
        for fd in fds:
            os.close(fd)
        raise


def _exactly(line: socket.socket, size: int) -> bytes:
    body = bytearray()
    while len(body) < size:
        part = line.recv(min(size - len(body), 1 << 20))
        if not part:
            raise Gone
        body += part
    return bytes(body)
