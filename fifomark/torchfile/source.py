"""The file that is read: bytes by position, never mapped (a file that its owner truncates must not kill its reader).

Standard library only, like every module that the parser child runs.
"""

from __future__ import annotations

import io
import os
from typing import NamedTuple

_SMALL = 256 << 10  # bytes of a file that is read at once


class ParseLimits(NamedTuple):
    """Budgets of one parse; sizes in bytes."""

    pickle_bytes: int = 64 << 20
    inflated_bytes: int = 2 << 30
    description_bytes: int = 64 << 20
    tensors: int = 50_000


class Problem(NamedTuple):
    """Something wrong with the structure: a code of the catalogue, where, in which words, seen how."""

    code: str
    where: str
    message: str
    evidence: str | None = None


class Broken(Exception):
    """The file cannot be read any further, because of `problem`."""

    def __init__(self, code: str, where: str, message: str, evidence: str | None = None) -> None:
        super().__init__(message)
        self.problem = Problem(code, where, message, evidence)


def place_of(error: BaseException) -> str:
    """The kind of exception, and the line of ours that raised it; nothing that the file chose."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = f"{os.path.basename(trace.tb_frame.f_code.co_filename)}:{trace.tb_lineno}" if trace else "?"
    return f"{type(error).__name__} at {where}"


class Source:
    """An open regular file."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.size = os.fstat(fd).st_size
        data = os.pread(fd, self.size, 0) if self.size <= _SMALL else None
        self._all = data if data is not None and len(data) == self.size else None

    def at(self, start: int, count: int, where: str = "the file") -> bytes:
        """Exactly `count` bytes from `start`; Broken (FM107) where the file has fewer."""
        if start < 0 or count < 0 or start + count > self.size:
            raise Broken("FM107", where, f"the file ends {start + count - self.size} bytes too early", f"{self.size} bytes")
        if self._all is not None:
            return self._all[start : start + count]
        parts = []
        while count:
            part = os.pread(self.fd, count, start)
            if not part:
                raise Broken("FM113", where, "the file became shorter while it was read")
            parts.append(part)
            start += len(part)
            count -= len(part)
        return b"".join(parts)

    def stream(self, budget: int) -> io.BufferedReader:
        """The file as a buffered stream; Broken (FM110) once about `budget` bytes were read of it."""
        return io.BufferedReader(_Raw(self.fd, budget), 1 << 16)


class _Raw(io.RawIOBase):
    def __init__(self, fd: int, budget: int) -> None:
        self._fd, self._budget, self._position = fd, budget, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        assert whence in (0, 1)
        self._position = offset if whence == 0 else self._position + offset
        return self._position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        if self._position >= self._budget:
            raise Broken("FM110", "the pickles", f"they are longer than may be read ({self._budget} bytes)")
        data = os.pread(self._fd, len(buffer), self._position)
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)
