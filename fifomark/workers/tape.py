"""What a worker says on stdout and stderr, kept by its head and its tail: it must not drown what the daemon says, nor fill a disk."""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import re
import secrets
import sys
from collections.abc import Callable
from multiprocessing import Pipe
from multiprocessing.connection import Connection

from fifomark.core.text import shown

HEAD = TAIL = 32 << 10  # bytes
_PIPE = 1 << 20  # bytes that may be said between two turns of the daemon before the worker has to wait
_MAX_LINE = 4000
_LENGTH = 54  # of a mark, in bytes


class _Piece:
    """What was said while one submission was worked on (None: before the first, or after one had ended)."""

    def __init__(self, submission: int | None = None) -> None:
        self.submission = submission
        self._head, self._tail, self._said = bytearray(), bytearray(), 0

    def keep(self, said: bytes) -> None:
        self._said += len(said)
        room = HEAD - len(self._head)
        self._head += said[:room]
        self._tail += said[room:]
        del self._tail[:-TAIL]

    def __str__(self) -> str:
        lost = self._said - len(self._head) - len(self._tail)
        words = self._head + (f"\n… {lost} bytes …\n".encode() if lost else b"") + self._tail
        lines = words.decode("utf-8", "backslashreplace").splitlines()
        return "".join(shown(line.replace("\t", "    "), _MAX_LINE) + "\n" for line in lines)


class Tape:
    """`writer` and `secret` go to the worker (`record`). Nothing here ever blocks, whatever the worker does."""

    def __init__(self) -> None:
        self._reader, self.writer = Pipe(duplex=False)
        os.set_blocking(self._reader.fileno(), False)
        with contextlib.suppress(OSError):  # more than this user may have: what it is will do
            fcntl.fcntl(self._reader.fileno(), fcntl.F_SETPIPE_SZ, _PIPE)
        self.secret = secrets.token_hex(16)  # so that nothing that is printed passes for a mark
        self._mark = re.compile(_mark(self.secret, r"(\d{20})").encode())
        self._cut = b""  # the end of what was read last, where that may be the beginning of a mark
        self._pieces = [_Piece()]

    def roll(self) -> None:
        """Take up what has been said since; no more than a pipe holds, however fast it is filled again."""
        taken = 0
        while taken < _PIPE:
            try:
                said = os.read(self._reader.fileno(), 1 << 16)
            except BlockingIOError:
                return
            if not said:
                return
            taken += len(said)
            self._keep(said)

    def take(self, submission: int) -> str:
        """What has been said since the last time, in printable lines; what was between head and tail is counted. Where the worker marks
        what it begins, up to the end of `submission`, and nothing where it has not begun that."""
        self.roll()
        begun = [piece.submission for piece in self._pieces]
        if submission in begun:
            end = begun.index(submission) + 1
        elif begun == [None]:
            end = 1
        else:
            return ""
        taken, self._pieces = self._pieces[:end], self._pieces[end:] or [_Piece()]
        return "".join(map(str, taken))

    def _keep(self, said: bytes) -> None:
        *marked, said = self._mark.split(self._cut + said)
        for words, submission in zip(marked[::2], marked[1::2], strict=True):
            self._pieces[-1].keep(words)
            self._pieces.append(_Piece(int(submission)))
        at = said.rfind(b"\x1e", -_LENGTH)
        begins = at >= 0 and f"\x1e{self.secret}".encode().startswith(said[at : at + 1 + len(self.secret)])
        said, self._cut = (said[:at], said[at:]) if begins else (said, b"")
        self._pieces[-1].keep(said)


def _mark(secret: str, submission: str) -> str:
    return f"\x1e{secret}{submission}\x1e"


def record(writer: Connection, secret: str) -> Callable[[int], None]:
    """In the worker: what is said from now on goes to the tape at once, so that the last words of one that is killed are on it. Gives what
    marks there that a submission is begun."""
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(writer.fileno(), number)
        raw = open(number, "wb", buffering=0, closefd=False)  # noqa: SIM115 (until it ends)
        setattr(sys, name, io.TextIOWrapper(raw, encoding="utf-8", errors="backslashreplace", write_through=True))

    def begin(submission: int) -> None:
        os.write(writer.fileno(), _mark(secret, f"{submission:020d}").encode())

    return begin
