"""The pass over the bytes: hashes, checksums and values of the weights, and the clean file as they go by.

The file is read once, forwards. Only what does not lie in it as it will in the clean file (a storage of which a view shows a part, or
crosswise, or that is compressed; storages in another order than that of their names) is read again, from the cache of the operating
system.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from itertools import groupby
from typing import NamedTuple

import numpy as np

from fifomark.core.catalogue import find
from fifomark.core.findings import Finding
from fifomark.core.inspection import CleanFile
from fifomark.core.weights import TensorSummary, WeightsSummary
from fifomark.sanitizer import anomalies
from fifomark.sanitizer.parameters import Values
from fifomark.torchfile import writer
from fifomark.torchfile.description import Storage
from fifomark.torchfile.digest import Digest
from fifomark.torchfile.inflated import in_order, opened
from fifomark.torchfile.output import Output
from fifomark.torchfile.strided import chunks, crosswise, scattered
from fifomark.torchfile.views import CHUNK, Source, View, read_exactly
from fifomark.torchfile.writer import Plan

MAX_WRONG = 20  # storages whose checksum is wrong that are listed
Views = Sequence[tuple[str, View]]
Pieces = Iterable[bytes | memoryview]
Format = Callable[[Output, Sequence[Plan]], writer.CleanFile]


class Extraction(NamedTuple):
    """What reading a file came to. `sha256` is None where it could not be read to its end, `clean` where nothing was written."""

    sha256: str | None
    findings: list[Finding]
    weights: WeightsSummary | None = None
    clean: CleanFile | None = None


@np.errstate(all="ignore")  # a signalling NaN is what we look for, no reason to warn
def extract(fd: int, size: int, storages: Sequence[Storage], views: Views, out: int | None, form: Format) -> Extraction:
    """Read a file of `size` bytes: its hash, what its views hold, and what is wrong with that. With `out`, write a clean file.

    The views and storages are checked: they lie in the file, and the storages apart. What is checked here is what is written: the same
    bytes. BrokenStorage where they are not what was declared; OSError where the clean file cannot be written.
    """
    with ExitStack() as stack:
        file = Digest(size)
        stack.callback(file.close)
        reading = _Reading(fd, size, storages, views, file)
        if out is not None:
            output = Output(out, sum(view.nbytes for view in reading.order))
            stack.callback(output.abandon)
            clean = form(output, reading.plans())
            reading.clean, reading.output = clean, output
        reading.run()
        written = None
        if reading.clean is not None and not reading.findings:
            reading.clean.close()
            written = output.close()
        names = _names(views)
        weights = _summary(views, names, reading.read) if views else None
        findings = reading.findings + anomalies.judge({name: reading.read[view] for view, name in names.items()})
        made = None if written is None else CleanFile(size=written[0], sha256=written[1])
        return Extraction(file.hexdigest(), findings, weights, made)


class _Reading:
    """One file on its way through. `read` fills with its views, `findings` with storages whose checksum is wrong."""

    def __init__(self, fd: int, size: int, storages: Sequence[Storage], views: Views, file: Digest) -> None:
        self._fd, self._size, self._storages, self._views, self._file = fd, size, storages, views, file
        # By names, whatever order the file has (the legacy format's is that of addresses in memory): the same weights, the same clean file.
        # Of one storage as it lies there, so that a compressed one is inflated once.
        distinct = dict.fromkeys(view for _, view in views)
        turn = {storage: i for i, storage in enumerate(dict.fromkeys(view.storage for view in distinct))}
        self.order = sorted(distinct, key=lambda view: (turn[view.storage], *in_order(view)))
        # All storages, as they are gone through.
        self._turns = sorted(range(len(storages)), key=lambda i: (storages[i].start, i))
        self._forwards = [i for i in self._turns if i in turn] == list(turn)
        if not self._forwards:
            self._turns = list(dict.fromkeys((*turn, *self._turns)))
        # A small file is read at once.
        self._bytes = memoryview(read_exactly(fd, 0, size)) if size <= CHUNK else None
        self._hashed = False  # the whole file, before its storages are gone through
        self.clean: writer.CleanFile | None = None
        self.output: Output | None = None
        self.read: dict[View, Values] = {}
        self.findings: list[Finding] = []

    def plans(self) -> list[Plan]:
        number = {view: i for i, view in enumerate(self.order)}
        return [Plan(name, view.dtype, view.shape, number[view]) for name, view in self._views]

    def run(self) -> None:
        if self._bytes is not None or not self._forwards:
            self._pass_over(0, self._size)
            self._hashed = True
        shown = {storage: list(group) for storage, group in groupby(self.order, key=lambda view: view.storage)}
        at = 0
        for i in self._turns:
            storage = self._storages[i]
            start = storage.start if storage.stored else at  # one without bytes lies anywhere
            self._pass_over(at, start)
            self._storage(storage, shown.get(i, []))
            at = start + storage.stored
        self._pass_over(at, self._size)

    def _pass_over(self, start: int, end: int) -> None:
        if not self._hashed:
            for data in self._pieces(start, end):
                self._file.update(data)

    def _storage(self, storage: Storage, views: Sequence[View]) -> None:
        if len(views) == 1 and _is_whole(views[0], storage):
            crc = self._take(views[0], self._written(self._through(storage)))
        else:
            crc = _crc32(self._through(storage))
            with opened(self._fd, storage, views) as source:
                for view in views:
                    self._take(view, self._elements(view, source))
        if storage.method == 0 and storage.crc32 not in (None, crc) and len(self.findings) < MAX_WRONG:
            self.findings.append(find("FM111", f"storage {storage.key}", "its checksum does not match its bytes"))

    def _through(self, storage: Storage) -> Pieces:
        pieces = self._pieces(storage.start, storage.start + storage.stored)
        return pieces if self._hashed else self._hashing(pieces)

    def _hashing(self, pieces: Pieces) -> Pieces:
        for data in pieces:
            self._file.update(data)
            yield data

    def _pieces(self, start: int, end: int) -> Pieces:
        if self._bytes is not None:
            return (self._bytes[start:end],)
        return (read_exactly(self._fd, at, min(CHUNK, end - at)) for at in range(start, end, CHUNK))

    def _elements(self, view: View, source: Source) -> Pieces:
        """The bytes of a view, written on their way. The output is where the elements of a large transposed one find their order."""
        if self.output is not None and crosswise(view):
            return self.output.settled(scattered(view, source), view.nbytes)
        return self._written(chunks(view, source))

    def _written(self, data: Pieces) -> Pieces:
        return data if self.output is None else self.output.passing(data)

    def _take(self, view: View, data: Pieces) -> int:
        """Look at the bytes of a view as they are written; gives their CRC-32."""
        if self.clean is not None:
            self.clean.storage(view.nbytes)
        values, crc = Values(view.dtype, view.shape), 0
        for piece in data:
            values.feed(piece)
            crc = zlib.crc32(piece, crc)
        if self.clean is not None:
            self.clean.written(crc)
        values.end()
        self.read[view] = values
        return crc


def _is_whole(view: View, storage: Storage) -> bool:
    """Whether the view's elements are the storage, as it lies in the file."""
    return storage.method == 0 and view.contiguous and view.offset == 0 and view.nbytes == storage.nbytes


def _crc32(data: Pieces) -> int:
    crc = 0
    for piece in data:
        crc = zlib.crc32(piece, crc)
    return crc


def _names(views: Views) -> dict[View, str]:
    """The name of each tensor, of those that are tied the first."""
    names: dict[View, str] = {}
    for name, view in views:
        names.setdefault(view, name)
    return names


def _summary(views: Views, names: dict[View, str], read: dict[View, Values]) -> WeightsSummary:
    tensors: list[TensorSummary] = []
    for name, view in views:
        tied_to = names[view]
        tensors.append(read[view].summary(name, tied_to if tied_to != name else None))
    return WeightsSummary(
        parameters=sum(view.numel for view in names),
        bytes=sum(view.nbytes for view in names),
        dtypes=tuple(sorted({view.dtype.name for view in names})),
        tensors=tuple(tensors),
    )
