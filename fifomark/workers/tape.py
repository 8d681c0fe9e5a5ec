"""What a worker says on stdout and stderr, kept by its head and its tail: it must not drown what the daemon says, nor fill a disk."""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import sys
from multiprocessing import Pipe
from multiprocessing.connection import Connection

from fifomark.core.text import shown

HEAD = TAIL = 32 << 10  # bytes
_PIPE = 1 << 20  # bytes that may be said between two turns of the daemon before the worker has to wait
_MAX_LINE = 4000


class Tape:
    """`writer` goes to the worker (`record`). Nothing here ever blocks, whatever the worker does."""

    def __init__(self) -> None:
        self._reader, self.writer = Pipe(duplex=False)
        os.set_blocking(self._reader.fileno(), False)
        with contextlib.suppress(OSError):  # more than this user may have: what it is will do
            fcntl.fcntl(self._reader.fileno(), fcntl.F_SETPIPE_SZ, _PIPE)
        self._head, self._tail, self._said = bytearray(), bytearray(), 0

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

    def take(self) -> str:
        """What has been said since the last time, in printable lines; what was between head and tail is counted."""
        self.roll()
        lost = self._said - len(self._head) - len(self._tail)
        words = self._head + (f"\n… {lost} bytes …\n".encode() if lost else b"") + self._tail
        self._head, self._tail, self._said = bytearray(), bytearray(), 0
        lines = words.decode("utf-8", "backslashreplace").splitlines()
        return "".join(shown(line.replace("\t", "    "), _MAX_LINE) + "\n" for line in lines)

    def _keep(self, said: bytes) -> None:
        self._said += len(said)
        room = HEAD - len(self._head)
        self._head += said[:room]
        self._tail += said[room:]
        del self._tail[:-TAIL]


def record(writer: Connection) -> None:
    """In the worker: what is said from now on goes to the tape at once, so that the last words of one that is killed are on it."""
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(writer.fileno(), number)
        raw = open(number, "wb", buffering=0, closefd=False)  # noqa: SIM115 (until it ends)
        setattr(sys, name, io.TextIOWrapper(raw, encoding="utf-8", errors="backslashreplace", write_through=True))
    writer.close()
