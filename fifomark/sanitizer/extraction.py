"""The pass over the bytes: hashes, checksums and values of the weights, and the clean file as they go by."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from itertools import groupby
from typing import NamedTuple

from fifomark.core.catalogue import find
from fifomark.core.findings import Finding
from fifomark.core.weights import TensorSummary, WeightsSummary
from fifomark.sanitizer.parameters import Values
from fifomark.torchfile.description import Storage
from fifomark.torchfile.views import CHUNK, View, chunks, opened, read_exactly
from fifomark.torchfile.writer import CleanWriter, Plan

_SHOWN = 20


class _Read(NamedTuple):
    """What the bytes of one view came to."""

    values: Values
    sha256: str


def read_through(fd: int, size: int, storages: Sequence[Storage] = ()) -> tuple[str, list[Storage]]:
    """The SHA-256 of the file, and those uncompressed storages whose CRC-32 is wrong. The storages lie in the file and apart.

    BrokenStorage where the file has become shorter.
    """
    sha256, wrong, at = hashlib.sha256(), [], 0
    for storage in sorted((s for s in storages if s.method == 0 and s.stored), key=lambda s: s.start):
        for data in _pieces(fd, at, storage.start):
            sha256.update(data)
        crc, at = 0, storage.start + storage.stored
        for data in _pieces(fd, storage.start, at):
            sha256.update(data)
            crc = zlib.crc32(data, crc)
        if storage.crc32 not in (None, crc):
            wrong.append(storage)
    for data in _pieces(fd, at, size):
        sha256.update(data)
    return sha256.hexdigest(), wrong


def _pieces(fd: int, start: int, end: int) -> Iterator[bytes]:
    for at in range(start, end, CHUNK):
        yield read_exactly(fd, at, min(CHUNK, end - at))


def extract(
    fd: int, storages: Sequence[Storage], views: Sequence[tuple[str, View]], out: int | None
) -> tuple[WeightsSummary, list[Finding]]:
    """Read every view once: what the weights are, and what is wrong with their values. With `out`, the clean file is written to it.

    The views are checked. What is checked here is what is written: the same bytes. BrokenStorage where they are not what was declared.
    """
    # In the order of the file, so that it is read forwards and a compressed storage inflated once.
    order = sorted(dict.fromkeys(view for _, view in views), key=lambda view: (storages[view.storage].start, view.storage, view.offset))
    number = {view: i for i, view in enumerate(order)}
    plans = [Plan(name, view.dtype, view.shape, number[view]) for name, view in views]
    writer = None if out is None else CleanWriter(out, plans)
    read: dict[View, _Read] = {}
    for storage, group in groupby(order, key=lambda view: view.storage):
        with opened(fd, storages[storage]) as source:
            for view in group:
                read[view] = _taken(view, chunks(view, source), writer)
    if writer is not None:
        writer.close()
    return _summary(views, read), _broken_values(views, read)


def _taken(view: View, data: Iterator[bytes | memoryview], writer: CleanWriter | None) -> _Read:
    values, sha256 = Values(view.dtype), hashlib.sha256()
    with writer.storage(view.nbytes) if writer is not None else nullcontext() as record:
        for piece in data:
            values.feed(piece)
            sha256.update(piece)
            if record is not None:
                record.write(piece)
    return _Read(values, sha256.hexdigest())


def _summary(views: Sequence[tuple[str, View]], read: dict[View, _Read]) -> WeightsSummary:
    first: dict[View, str] = {}
    tensors: list[TensorSummary] = []
    for name, view in views:
        tied_to = first.setdefault(view, name)
        tensors.append(read[view].values.summary(name, view.dtype, view.shape, tied_to if tied_to != name else None))
    return WeightsSummary(
        parameters=sum(view.numel for view in first),
        bytes=sum(view.nbytes for view in first),
        dtypes=tuple(sorted({view.dtype.name for view in first})),
        sha256=_weights_sha256([(name, view.dtype.name, view.shape, read[view].sha256) for name, view in views]),
        tensors=tuple(tensors),
    )


def _weights_sha256(rows: Sequence[tuple[str, str, tuple[int, ...], str]]) -> str:
    """SHA-256 over one JSON line a tensor, in the order of their names: [name, dtype, shape, SHA-256 of its contiguous bytes]."""
    sha256 = hashlib.sha256()
    for row in sorted(rows):
        sha256.update(json.dumps(row).encode() + b"\n")
    return sha256.hexdigest()


def _broken_values(views: Sequence[tuple[str, View]], read: dict[View, _Read]) -> list[Finding]:
    names = {view: name for name, view in reversed(views)}  # ties once, by their first name
    values = {names[view]: read[view].values for view in reversed(names)}
    nan = {name: (seen.nan, seen.first_nan) for name, seen in values.items() if seen.nan}
    infinite = {name: (seen.infinite, seen.first_infinite) for name, seen in values.items() if seen.infinite}
    return [
        find(code, next(iter(seen)), _counted(what, seen, len(values)), evidence=_located(seen))
        for code, what, seen in (("FM401", "NaN", nan), ("FM402", "infinite", infinite))
        if seen
    ]


def _counted(what: str, seen: dict[str, tuple[int, int | None]], tensors: int) -> str:
    count = sum(count for count, _ in seen.values())
    return f"{count:,} {'value is' if count == 1 else 'values are'} {what}, in {len(seen)} of {tensors} tensors"


def _located(seen: dict[str, tuple[int, int | None]]) -> str:
    shown = [f"{name}: {count:,}, the first at flat index {first}" for name, (count, first) in list(seen.items())[:_SHOWN]]
    return "; ".join(shown)
