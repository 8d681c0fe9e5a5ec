"""Compressed storages: inflated once, to what they declare, and held in memory only where that cannot be helped."""

from __future__ import annotations

import os
import random
import tracemalloc
import zlib
from collections import deque

import msgspec
import pytest

from fifomark.torchfile.description import Storage
from fifomark.torchfile.dtypes import DTYPES
from fifomark.torchfile.inflated import forwards, in_order, opened
from fifomark.torchfile.strided import chunks
from fifomark.torchfile.views import BrokenStorage, View


def deflated(data: bytes, **claims: int) -> tuple[int, Storage]:
    machine = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = machine.compress(data) + machine.flush()
    fd = os.memfd_create("test")
    os.write(fd, b"head" + packed + b"tail")
    facts = {"stored": len(packed), "nbytes": len(data), "crc32": zlib.crc32(data)} | claims
    return fd, Storage(key="0", start=4, method=8, **facts)


def part(start: int, size: int) -> View:
    return View(0, DTYPES["uint8"], (size,), (1,), start)


CROSSWISE = View(0, DTYPES["uint8"], (2, 2), (1, 2), 0)
BOTH_WAYS = pytest.mark.parametrize("views", [(), (CROSSWISE,)], ids=["on the way", "in memory"])


@pytest.mark.parametrize("size", [0, 1, 100_000, 9_000_000])
@BOTH_WAYS
def test_a_compressed_storage_is_inflated_whole(size: int, views: tuple[View, ...]) -> None:
    data = random.Random(size).randbytes(1000) * (size // 1000) if size > 1 else bytes(size)
    fd, storage = deflated(data)
    with opened(fd, storage, views) as source:
        assert source.read(0, len(data)) == data
    os.close(fd)


@pytest.mark.parametrize(
    ("claims", "code"),
    [({"nbytes": 99_999}, "FM108"), ({"nbytes": 100_001}, "FM108"), ({"crc32": 1}, "FM111"), ({"stored": 20}, "FM108")],
)
@pytest.mark.parametrize("views", [(), (CROSSWISE,), (part(0, 50_000),)], ids=["unread", "in memory", "on the way"])
def test_a_compressed_storage_that_is_not_what_it_declares_is_refused(claims: dict[str, int], code: str, views: tuple[View, ...]) -> None:
    fd, storage = deflated(bytes(100_000), **claims)
    with pytest.raises(BrokenStorage) as caught, opened(fd, storage, views) as source:
        deque(b"".join(chunks(view, source)) for view in views)
    assert caught.value.code == code
    os.close(fd)


@BOTH_WAYS
def test_bytes_after_the_end_of_a_compressed_storage_are_refused(views: tuple[View, ...]) -> None:
    fd, storage = deflated(b"abc" * 100)
    longer = msgspec.structs.replace(storage, stored=storage.stored + 4)
    with pytest.raises(BrokenStorage, match="does not inflate"), opened(fd, longer, views):
        pass
    os.close(fd)


@BOTH_WAYS
def test_a_bomb_is_stopped_at_its_declared_size(views: tuple[View, ...]) -> None:
    fd, storage = deflated(bytes(50_000_000), nbytes=1000)
    tracemalloc.start()
    with pytest.raises(BrokenStorage), opened(fd, storage, views):
        pass
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()
    os.close(fd)


# What is held in memory


@pytest.mark.parametrize(
    ("views", "expected"),
    [
        ([], True),
        ([part(0, 10)], True),
        ([part(3, 4)], True),
        ([part(0, 5), part(5, 5)], True),
        ([part(5, 5), part(0, 0), part(0, 5), part(8, 0)], False),
        ([part(5, 5), part(0, 0), part(0, 5), part(5, 0)], True),
        ([part(0, 6), part(5, 5)], False),
        ([CROSSWISE], False),
        ([part(0, 4), View(0, DTYPES["int32"], (2,), (1,), 1)], True),
        ([part(0, 5), View(0, DTYPES["int32"], (2,), (1,), 1)], False),
    ],
)
def test_views_that_follow_one_another_can_be_read_on_the_way(views: list[View], expected: bool) -> None:
    assert forwards(views) is expected


def test_views_that_follow_one_another_are_read_without_holding_the_storage(monkeypatch: pytest.MonkeyPatch) -> None:
    data = random.Random(0).randbytes(1000) * 40_000
    fd, storage = deflated(data)
    monkeypatch.delattr(os, "memfd_create")
    views = sorted([part(0, 7), part(7, 0), part(7, 9_000_000), part(20_000_000, 1 << 20), part(39_999_999, 1)], key=in_order)
    tracemalloc.start()
    with opened(fd, storage, views) as source:
        for view in views:
            at = view.offset
            for piece in chunks(view, source):
                assert piece == data[at : at + len(piece)]
                at += len(piece)
            assert at == view.offset + view.nbytes
    assert tracemalloc.get_traced_memory()[1] < 8 << 20
    tracemalloc.stop()
    os.close(fd)
