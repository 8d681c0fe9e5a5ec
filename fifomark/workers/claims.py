"""Tickets that lie ready before a worker, so that it need not wait for the daemon's next turn; what it has not begun can be taken back.

For each there is a token in a pipe that both sides read: whoever has read it, has the ticket. What is written to a pipe in one piece of at
most PIPE_BUF bytes is in it in one piece, and no two readers get the same bytes (pipe(7)).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait

import msgspec

_TOKEN = 8  # bytes
MAX_READY = 4096 // _TOKEN  # tokens that fit into the pipe at once, at the very least


class Claims:
    """The daemon's side. `tokens` goes to the worker."""

    def __init__(self) -> None:
        self.tokens, self._writer = Pipe(duplex=False)
        for end in (self.tokens, self._writer):
            os.set_blocking(end.fileno(), False)

    def offer(self, submissions: Iterable[int]) -> None:
        """At most MAX_READY of them may lie there at once."""
        os.write(self._writer.fileno(), b"".join(id.to_bytes(_TOKEN, "little") for id in submissions))

    def take_back(self) -> frozenset[int]:
        """What no worker will begin any more."""
        try:
            tokens = os.read(self.tokens.fileno(), _TOKEN * MAX_READY)
        except BlockingIOError:
            return frozenset()
        return frozenset(int.from_bytes(tokens[at : at + _TOKEN], "little") for at in range(0, len(tokens), _TOKEN))

    def close(self) -> None:
        self.tokens.close()
        self._writer.close()


class _Numbered(msgspec.Struct):
    submission: int


class Claimed:
    """The worker's side: a connection on which each ticket is taken by its token, and those that were taken back are passed over."""

    def __init__(self, connection: Connection, tokens: Connection, begin: Callable[[int], None] | None = None) -> None:
        """`begin` is called with each submission that is claimed."""
        self._connection, self._tokens, self._begin = connection, tokens, begin

    def recv_bytes(self) -> bytes:
        """The next ticket, once there is one; EOFError where the other side has gone."""
        claimed = self._claim()
        if self._begin is not None:
            self._begin(claimed)
        while True:
            ticket = self._connection.recv_bytes()
            if msgspec.json.decode(ticket, type=_Numbered).submission == claimed:
                return ticket

    def send_bytes(self, message: bytes) -> None:
        self._connection.send_bytes(message)

    def poll(self) -> bool:
        """Never more than one at once: the others may still be taken back."""
        return False

    def _claim(self) -> int:
        while True:
            wait([self._tokens])
            try:
                token = os.read(self._tokens.fileno(), _TOKEN)
            except BlockingIOError:  # taken back in the meantime
                continue
            if not token:
                raise EOFError
            return int.from_bytes(token, "little")
