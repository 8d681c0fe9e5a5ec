"""Where a clean file goes: an open descriptor, hashed on the way."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable, Iterator

from fifomark.torchfile.digest import Digest
from fifomark.torchfile.views import CHUNK, read_exactly

_BUFFER = 1 << 18  # bytes: headers and small tensors go out together
_TO_DISK = 8 << 20  # bytes that are written before the disk is told to begin with them
_SYNC_FILE_RANGE_WRITE = 2
_sync_file_range = getattr(ctypes.CDLL(None), "sync_file_range", None)


class Output:
    """Written from its start on; `at` is where the next bytes go. OSError where they cannot be written."""

    def __init__(self, fd: int, expected: int) -> None:
        """`expected`: about how many bytes will come."""
        self.at = self._end = self._begun = 0
        self._fd = fd
        self._digest: Digest | None = Digest(expected)
        self._waiting: list[bytes | memoryview] = []
        self._waits = 0

    def write(self, data: bytes | memoryview) -> None:
        """`data` is kept for a while: nobody may change it afterwards."""
        self.at += len(data)
        self._waiting.append(data)
        self._waits += len(data)
        if self._waits >= _BUFFER:
            self._flush()

    def passing(self, pieces: Iterable[bytes | memoryview]) -> Iterator[bytes | memoryview]:
        """`pieces` once more, each of them written."""
        for data in pieces:
            self.write(data)
            yield data

    def settled(self, pieces: Iterable[tuple[int, memoryview]], nbytes: int) -> Iterator[bytes]:
        """Write the next `nbytes` in any order, each piece where it belongs among them; then they come in their own, as they lie there."""
        self._flush()
        for at, data in pieces:
            self._put(self.at + at, data)
        for at in range(0, nbytes, CHUNK):
            read = read_exactly(self._fd, self.at, min(CHUNK, nbytes - at))
            if self._digest is not None:
                self._digest.update(read)
            self.at += len(read)
            yield read

    def seek(self, at: int) -> None:
        """Go on elsewhere. What is not written from its start to its end is hashed at its end."""
        if at != self.at:
            self._flush()
            self._forget()
            self.at = at

    def copy(self, start: int, size: int) -> None:
        """Write once more what was written at `start`."""
        self._flush()
        for at in range(start, start + size, CHUNK):
            self.write(read_exactly(self._fd, at, min(CHUNK, start + size - at)))

    def close(self) -> tuple[int, str]:
        """Write what is still to be written; gives the size of all and its SHA-256. To make it last is up to whoever opened it."""
        self._flush()
        if self._digest is None:
            self._digest = Digest(self._end)
            for at in range(0, self._end, CHUNK):
                self._digest.update(read_exactly(self._fd, at, min(CHUNK, self._end - at)))
        return self._end, self._digest.hexdigest()

    def abandon(self) -> None:
        """Let go of the thread that hashes. Does nothing after `close`."""
        self._forget()

    def _forget(self) -> None:
        if self._digest is not None:
            self._digest.close()
            self._digest = None

    def _flush(self) -> None:
        data = self._waiting[0] if len(self._waiting) == 1 else b"".join(self._waiting)
        position = self.at - self._waits
        self._waiting, self._waits = [], 0
        if self._digest is not None:
            self._digest.update(data)
        self._put(position, data)

    def _put(self, position: int, data: bytes | memoryview) -> None:
        rest = memoryview(data)
        while rest:
            count = os.pwrite(self._fd, rest, position)
            rest, position = rest[count:], position + count
        self._end = max(self._end, position)
        if position - self._begun >= _TO_DISK:
            _begin(self._fd, self._begun, position)
            self._begun = position


def _begin(fd: int, start: int, end: int) -> None:
    """Have the disk write this part now, without waiting for it: making the file last has less to wait for. No promise is made by that."""
    if _sync_file_range is not None:
        _sync_file_range(fd, ctypes.c_int64(start), ctypes.c_int64(end - start), _SYNC_FILE_RANGE_WRITE)
