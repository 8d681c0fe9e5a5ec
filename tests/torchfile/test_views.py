"""Reading views from a file, against numpy's own striding."""

from __future__ import annotations

import os
import random
import zlib
from collections.abc import Iterator

import numpy as np
import pytest

from fifomark.torchfile import views
from fifomark.torchfile.description import Storage
from fifomark.torchfile.dtypes import DTYPES
from fifomark.torchfile.views import BrokenStorage, Source, View, chunks, opened

ELEMENTS = np.arange(5000, dtype="<i4")


@pytest.fixture
def file() -> Iterator[int]:
    fd = os.memfd_create("test")
    os.write(fd, ELEMENTS.tobytes())
    yield fd
    os.close(fd)


def view(shape: tuple[int, ...], stride: tuple[int, ...], offset: int = 0) -> View:
    return View(0, DTYPES["int32"], shape, stride, offset)


def expected(one: View) -> bytes:
    strides = [4 * step for step in one.stride]
    return np.lib.stride_tricks.as_strided(ELEMENTS[one.offset :], one.shape, strides).tobytes()


@pytest.mark.parametrize(("chunk", "block"), [(4 << 20, 64 << 20), (64, 256), (4, 4), (4096, 100)])
@pytest.mark.parametrize(
    ("shape", "stride"),
    [
        ((5000,), (1,)),
        ((50, 100), (100, 1)),
        ((100, 50), (1, 100)),
        ((4, 5, 6, 7), (210, 1, 35, 5)),
        ((30, 7), (150, 3)),
        ((9, 20), (0, 4)),
        ((20, 9), (4, 0)),
        ((40, 40), (1, 1)),
        ((2, 1, 3), (1600, 999, 800)),
        ((), ()),
        ((0, 4), (4, 1)),
        ((3, 0), (1, 1)),
    ],
)
def test_any_stride_is_read_in_row_major_order(
    file: int, monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...], stride: tuple[int, ...], chunk: int, block: int
) -> None:
    monkeypatch.setattr(views, "CHUNK", chunk)
    monkeypatch.setattr(views, "BLOCK", block)
    one = view(shape, stride, 0 if shape == (5000,) else 11 if one_fits(shape, stride) else 0)
    pieces = [bytes(piece) for piece in chunks(one, Source(file, 0))]
    assert b"".join(pieces) == expected(one)
    assert all(len(piece) <= chunk and len(piece) % 4 == 0 for piece in pieces)


def one_fits(shape: tuple[int, ...], stride: tuple[int, ...]) -> bool:
    return 11 + view(shape, stride).extent <= ELEMENTS.size


def test_random_strides_are_read_as_numpy_reads_them(file: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "CHUNK", 128)
    monkeypatch.setattr(views, "BLOCK", 512)
    rng = random.Random(7)
    for _ in range(200):
        shape = tuple(rng.randint(1, 6) for _ in range(rng.randint(1, 4)))
        one = view(shape, tuple(rng.choice((0, 1, 2, 5, 30, 200)) for _ in shape), rng.randint(0, 50))
        assert b"".join(map(bytes, chunks(one, Source(file, 0)))) == expected(one)


@pytest.mark.parametrize(
    ("shape", "stride", "contiguous", "overlaps"),
    [
        ((2, 3), (3, 1), True, False),
        ((3, 2), (1, 3), False, False),
        ((1, 3), (999, 1), True, False),
        ((2, 3), (4, 1), False, False),
        ((2, 3), (0, 1), False, True),
        ((2, 3), (2, 1), False, True),
        ((0, 3), (0, 0), True, False),
        ((), (), True, False),
    ],
)
def test_contiguous_and_overlapping_views_are_told_apart(
    shape: tuple[int, ...], stride: tuple[int, ...], contiguous: bool, overlaps: bool
) -> None:
    assert (view(shape, stride).contiguous, view(shape, stride).overlaps) == (contiguous, overlaps)


def test_a_file_that_ends_early_is_no_data(file: int) -> None:
    with pytest.raises(BrokenStorage, match="shorter") as caught:
        list(chunks(view((5001,), (1,)), Source(file, 0)))
    assert caught.value.code == "FM113"


# Compressed storages


def deflated(data: bytes, **claims: int) -> tuple[int, Storage]:
    machine = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = machine.compress(data) + machine.flush()
    fd = os.memfd_create("test")
    os.write(fd, b"head" + packed + b"tail")
    facts = {"stored": len(packed), "nbytes": len(data), "crc32": zlib.crc32(data)} | claims
    return fd, Storage(key="0", start=4, method=8, **facts)


@pytest.mark.parametrize("size", [0, 1, 100_000, 9_000_000])
def test_a_compressed_storage_is_inflated_whole(size: int) -> None:
    data = random.Random(size).randbytes(1000) * (size // 1000) if size > 1 else bytes(size)
    fd, storage = deflated(data)
    with opened(fd, storage) as source:
        assert source.read(0, len(data)) == data
    os.close(fd)


@pytest.mark.parametrize(
    ("claims", "code"),
    [({"nbytes": 99_999}, "FM108"), ({"nbytes": 100_001}, "FM108"), ({"crc32": 1}, "FM111"), ({"stored": 20}, "FM108")],
)
def test_a_compressed_storage_that_is_not_what_it_declares_is_refused(claims: dict[str, int], code: str) -> None:
    fd, storage = deflated(bytes(100_000), **claims)
    with pytest.raises(BrokenStorage) as caught, opened(fd, storage):
        pass
    assert caught.value.code == code
    os.close(fd)


def test_bytes_after_the_end_of_a_compressed_storage_are_refused() -> None:
    fd, storage = deflated(b"abc" * 100)
    with pytest.raises(BrokenStorage, match="does not inflate"), opened(fd, Storage(**{**_fields(storage), "stored": storage.stored + 4})):
        pass
    os.close(fd)


def _fields(storage: Storage) -> dict[str, object]:
    return {name: getattr(storage, name) for name in storage.__struct_fields__}


def test_a_bomb_is_stopped_at_its_declared_size(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[int] = []
    monkeypatch.setattr(views, "write_all", lambda fd, data: kept.append(len(data)))
    fd, storage = deflated(bytes(50_000_000), nbytes=1000)
    with pytest.raises(BrokenStorage), opened(fd, storage):
        pass
    os.close(fd)
    assert sum(kept) <= 1000
