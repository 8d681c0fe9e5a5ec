"""Reading the elements of one tensor from a file: in row-major order, in bounded pieces, by pread.

Never mmap: a file that shrinks while it is mapped kills the reader, one that shrinks under a pread is a short read.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fifomark.torchfile.description import Storage
from fifomark.torchfile.dtypes import DType

CHUNK = 1 << 20  # bytes read at once: they stay in a core's cache while they are hashed, looked at and written
BLOCK = 32 << 20  # bytes of a strided view gathered at once
_FAR = 16 << 10  # bytes: elements that lie farther apart are worth a read of their own
_CALL = 4 << 10  # what a read costs beside its bytes, in bytes


class BrokenStorage(Exception):
    """The bytes of a storage are not what was declared. `code` is that of the finding."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class View(NamedTuple):
    """A tensor's place in its storage (an index into the description's); shape, stride and offset in elements."""

    storage: int
    dtype: DType
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int

    @property
    def numel(self) -> int:
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of its elements laid out one after another."""
        return self.numel * self.dtype.itemsize

    @property
    def extent(self) -> int:
        """Elements from its first to its last one in the storage, both included; 0 where it has none."""
        return 0 if 0 in self.shape else 1 + sum((n - 1) * d for n, d in zip(self.shape, self.stride, strict=True))

    @property
    def reads(self) -> int:
        """What `chunks` costs in bytes read, roughly: with strides, every row of every BLOCK may be a read of its own."""
        if self.contiguous:
            return self.nbytes
        item = self.dtype.itemsize
        far = prod(n for n, d in zip(self.shape, self.stride, strict=True) if d * item > _FAR)
        return 4 * self.nbytes + far * _CALL * (1 + self.nbytes // BLOCK)

    @property
    def contiguous(self) -> bool:
        """Whether its elements lie one after another in row-major order."""
        expected = 1
        for size, stride in zip(reversed(self.shape), reversed(self.stride), strict=True):
            if size != 1 and stride != expected:
                return self.numel == 0
            expected *= size
        return True

    @property
    def overlaps(self) -> bool:
        """Whether an element may lie under two indices (expanded views do). Dense in any order of dimensions is none."""
        reach = 0  # elements beyond the first that the dimensions so far span
        for stride, size in sorted((d, n) for n, d in zip(self.shape, self.stride, strict=True) if n > 1):
            if stride <= reach:
                return self.numel > 0
            reach += (size - 1) * stride
        return False


class Source(NamedTuple):
    """The inflated bytes of a storage: in the file `fd` from byte `start` on."""

    fd: int
    start: int

    def read(self, offset: int, size: int) -> bytes:
        """Exactly `size` bytes from `offset` on."""
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


@contextmanager
def opened(fd: int, storage: Storage) -> Iterator[Source]:
    """The bytes of `storage` in the file `fd`. A deflated one is inflated into memory without a name, exactly `nbytes` of it."""
    if storage.method == 0:
        yield Source(fd, storage.start)
        return
    inflated = os.memfd_create("fifomark-inflated")
    try:
        _inflate(fd, storage, inflated)
        yield Source(inflated, 0)
    finally:
        os.close(inflated)


def _inflate(fd: int, storage: Storage, target: int) -> None:
    wrong_size = BrokenStorage("FM108", f"storage {storage.key} does not inflate to the {storage.nbytes} bytes that it declares")
    machine, crc, written = zlib.decompressobj(-zlib.MAX_WBITS), 0, 0
    try:
        for data in _pieces(fd, storage):
            while out := machine.decompress(data, min(CHUNK, storage.nbytes - written + 1)):
                written += len(out)
                if written > storage.nbytes:
                    raise wrong_size
                crc = zlib.crc32(out, crc)
                write_all(target, out)
                data = machine.unconsumed_tail
    except zlib.error as e:
        raise BrokenStorage("FM108", f"storage {storage.key} is no deflated data: {e}") from e
    if written != storage.nbytes or not machine.eof or machine.unused_data:
        raise wrong_size
    if storage.crc32 is not None and crc != storage.crc32:
        raise BrokenStorage("FM111", f"the checksum of storage {storage.key} does not match its bytes")


def _pieces(fd: int, storage: Storage) -> Iterator[bytes]:
    for at in range(0, storage.stored, CHUNK):
        yield read_exactly(fd, storage.start + at, min(CHUNK, storage.stored - at))


def chunks(view: View, source: Source) -> Iterator[bytes | memoryview]:
    """The elements of `view` in row-major order, as bytes in pieces of whole elements, at most CHUNK each.

    The view must lie in its storage. A strided one is gathered BLOCK by BLOCK, so that memory stays bounded whatever its size.
    """
    if view.contiguous:
        start, end = view.offset * view.dtype.itemsize, view.offset * view.dtype.itemsize + view.nbytes
        for at in range(start, end, CHUNK):
            yield source.read(at, min(CHUNK, end - at))
        return
    for block in _split(view, BLOCK):
        data = _gathered(block, source)
        for at in range(0, len(data), CHUNK):
            yield data[at : at + CHUNK]


def _halves(view: View, dim: int) -> tuple[View, View]:
    half = view.shape[dim] // 2
    first = view._replace(shape=(*view.shape[:dim], half, *view.shape[dim + 1 :]))
    rest = (*view.shape[:dim], view.shape[dim] - half, *view.shape[dim + 1 :])
    return first, view._replace(shape=rest, offset=view.offset + half * view.stride[dim])


def _split(view: View, size: int) -> Iterator[View]:
    """`view` cut along its outermost dimensions into parts of at most `size` bytes, in row-major order."""
    if view.nbytes <= size:
        yield view
        return
    outermost = next(dim for dim, n in enumerate(view.shape) if n > 1)
    for half in _halves(view, outermost):
        yield from _split(half, size)


def _gathered(view: View, source: Source) -> memoryview:
    """The bytes of the elements of `view` in row-major order."""
    out = np.empty(view.shape, np.dtype((np.void, view.dtype.itemsize)))
    _fill(out, view, source)
    return out.reshape(-1).view(np.uint8).data


def _fill(out: npt.NDArray[np.void], view: View, source: Source) -> None:
    """Copy `view` into `out`: halved along its widest stride until a part lies close enough together to be read at once."""
    item = view.dtype.itemsize
    reach = view.extent * item
    if reach <= CHUNK and (reach <= _FAR or reach <= 4 * view.nbytes):
        data = source.read(view.offset * item, view.extent * item)
        strides = [d * item if n > 1 else 0 for n, d in zip(view.shape, view.stride, strict=True)]
        out[...] = np.ndarray(view.shape, out.dtype, data, strides=strides)
        return
    widest = max((dim for dim, n in enumerate(view.shape) if n > 1), key=lambda dim: view.stride[dim])
    first, rest = _halves(view, widest)
    before = (slice(None),) * widest
    _fill(out[(*before, slice(None, first.shape[widest]))], first, source)
    _fill(out[(*before, slice(first.shape[widest], None))], rest, source)
