"""A tensor's place in a file, and reading bytes of that by pread.

Never mmap: a file that shrinks while it is mapped kills the reader, one that shrinks under a pread is a short read.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from math import prod
from typing import Generic, NamedTuple, Protocol, TypeVar

from fifomark.torchfile.dtypes import DType

CHUNK = 1 << 20  # bytes read at once: they stay in a core's cache while they are hashed, looked at and written


class BrokenStorage(Exception):
    """The bytes of a storage are not what was declared. `code` is that of the finding."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


T = TypeVar("T")


class _Once(Generic[T]):
    """A property that is worked out once. That of functools takes a lock (before Python 3.12), which costs more than what is worked out."""

    def __init__(self, work: Callable[[View], T]) -> None:
        self._work, self._name = work, work.__name__

    def __get__(self, view: View, owner: object) -> T:
        value = self._work(view)
        view.__dict__[self._name] = value  # where it is found before this is asked again
        return value


class _Place(NamedTuple):
    storage: int
    dtype: DType
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int


class View(_Place):
    """A tensor's place in its storage (an index into the description's); shape, stride and offset in elements."""

    @_Once
    def numel(self) -> int:
        return prod(self.shape)

    @_Once
    def nbytes(self) -> int:
        """Bytes of its elements laid out one after another."""
        return self.numel * self.dtype.itemsize

    @_Once
    def extent(self) -> int:
        """Elements from its first to its last one in the storage, both included; 0 where it has none."""
        return 0 if 0 in self.shape else 1 + sum((n - 1) * d for n, d in zip(self.shape, self.stride, strict=True))

    @_Once
    def contiguous(self) -> bool:
        """Whether its elements lie one after another in row-major order."""
        expected = 1
        for size, stride in zip(reversed(self.shape), reversed(self.stride), strict=True):
            if size != 1 and stride != expected:
                return self.numel == 0
            expected *= size
        return True

    @_Once
    def overlaps(self) -> bool:
        """Whether an element may lie under two indices (expanded views do). Dense in any order of dimensions is none."""
        if self.contiguous:
            return False
        reach = 0  # elements beyond the first that the dimensions so far span
        for stride, size in sorted((d, n) for n, d in zip(self.shape, self.stride, strict=True) if n > 1):
            if stride <= reach:
                return self.numel > 0
            reach += (size - 1) * stride
        return False


class Source(Protocol):
    """The bytes of a storage."""

    def read(self, offset: int, size: int) -> bytes:
        """Exactly `size` bytes from `offset` on. BrokenStorage where they are not what was declared."""


class File(NamedTuple):
    """A storage in the file `fd` from byte `start` on."""

    fd: int
    start: int

    def read(self, offset: int, size: int) -> bytes:
        return read_exactly(self.fd, self.start + offset, size)


def write_all(fd: int, data: bytes | memoryview) -> None:
    """Write all of `data` at the descriptor's position."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]


def read_exactly(fd: int, offset: int, size: int) -> bytes:
    """`size` bytes at `offset`; BrokenStorage where the file ends before."""
    data = os.pread(fd, size, offset)
    while len(data) < size:
        more = os.pread(fd, size - len(data), offset + len(data))
        if not more:
            raise BrokenStorage("FM113", "the file became shorter while it was read")
        data += more
    return data
