"""The bytes of a storage, inflated where they lie compressed in the file: in their order as they are asked for, or into memory."""

from __future__ import annotations

import os
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from itertools import pairwise

from fifomark.torchfile.description import Storage
from fifomark.torchfile.views import CHUNK, BrokenStorage, File, Source, View, read_exactly, write_all


def in_order(view: View) -> tuple[int, int]:
    """The key that sorts the views of a storage as they lie in it."""
    return view.offset * view.dtype.itemsize, view.nbytes


def forwards(views: Collection[View]) -> bool:
    """Whether these views of a storage, in order, show its bytes one after another: then it need not be held as a whole."""
    apart = all((one.offset + one.extent) * one.dtype.itemsize <= in_order(two)[0] for one, two in pairwise(sorted(views, key=in_order)))
    return apart and all(view.contiguous for view in views)


@contextmanager
def opened(fd: int, storage: Storage, views: Collection[View]) -> Iterator[Source]:
    """The bytes of `storage` in the file `fd`, for reading `views` in order, each once.

    A deflated one is inflated once, exactly `nbytes` of it: on the way where the views go forwards, else into memory without a name.
    BrokenStorage, at the latest on leaving, where it is not what it declares.
    """
    if storage.method == 0:
        yield File(fd, storage.start)
    elif forwards(views):
        passing = _Passing(_inflated(fd, storage))
        yield passing
        passing.finish()
    else:
        memory = os.memfd_create("fifomark-inflated")
        try:
            for data in _inflated(fd, storage):
                write_all(memory, data)
            yield File(memory, 0)
        finally:
            os.close(memory)


class _Passing:
    """Bytes that go by: what is asked for lies behind what was asked for before."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces, self._piece, self._start = pieces, b"", 0  # the piece that begins at `_start`

    def read(self, offset: int, size: int) -> bytes:
        parts = []
        while size:
            while self._start + len(self._piece) <= offset:
                self._start += len(self._piece)
                self._piece = next(self._pieces)  # it has as many bytes as the views need, or raises
            part = self._piece[offset - self._start :][:size]
            parts.append(part)
            offset, size = offset + len(part), size - len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def finish(self) -> None:
        """Let the rest go by as well: it is checked at its end."""
        for _ in self._pieces:
            pass


def _inflated(fd: int, storage: Storage) -> Iterator[bytes]:
    wrong_size = BrokenStorage("FM108", f"storage {storage.key} does not inflate to the {storage.nbytes} bytes that it declares")
    machine, crc, size = zlib.decompressobj(-zlib.MAX_WBITS), 0, 0
    try:
        for data in _pieces(fd, storage):
            while out := machine.decompress(data, min(CHUNK, storage.nbytes - size + 1)):
                size += len(out)
                if size > storage.nbytes:
                    raise wrong_size
                crc = zlib.crc32(out, crc)
                yield out
                data = machine.unconsumed_tail
    except zlib.error as e:
        raise BrokenStorage("FM108", f"storage {storage.key} is no deflated data: {e}") from e
    if size != storage.nbytes or not machine.eof or machine.unused_data:
        raise wrong_size
    if storage.crc32 is not None and crc != storage.crc32:
        raise BrokenStorage("FM111", f"the checksum of storage {storage.key} does not match its bytes")


def _pieces(fd: int, storage: Storage) -> Iterator[bytes]:
    for at in range(0, storage.stored, CHUNK):
        yield read_exactly(fd, storage.start + at, min(CHUNK, storage.stored - at))
