"""Reading views from a file, against numpy's own striding."""

from __future__ import annotations

import os
import random
import tracemalloc
from collections.abc import Iterable, Iterator

import numpy as np
import pytest

from fifomark.torchfile import strided
from fifomark.torchfile.dtypes import DTYPES
from fifomark.torchfile.strided import chunks, cost, crosswise, scattered
from fifomark.torchfile.views import BrokenStorage, File, View

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


class Counted:
    """A source that keeps the sizes of its reads."""

    def __init__(self, fd: int) -> None:
        self.sizes: list[int] = []
        self._file = File(fd, 0)

    def read(self, offset: int, size: int) -> bytes:
        self.sizes.append(size)
        return self._file.read(offset, size)


def put_together(one: View, pieces: Iterable[tuple[int, memoryview]]) -> bytes:
    out = bytearray(one.nbytes)
    written = 0
    for at, piece in pieces:
        out[at : at + len(piece)] = piece
        written += len(piece)
    assert written == one.nbytes
    return bytes(out)


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
    monkeypatch.setattr(strided, "CHUNK", chunk)
    monkeypatch.setattr(strided, "BLOCK", block)
    one = view(shape, stride, 0 if shape == (5000,) else 11 if one_fits(shape, stride) else 0)
    pieces = [bytes(piece) for piece in chunks(one, File(file, 0))]
    assert b"".join(pieces) == expected(one)
    assert all(len(piece) <= chunk and len(piece) % 4 == 0 for piece in pieces)
    if not one.contiguous:
        assert put_together(one, scattered(one, File(file, 0))) == expected(one)


def one_fits(shape: tuple[int, ...], stride: tuple[int, ...]) -> bool:
    return 11 + view(shape, stride).extent <= ELEMENTS.size


def test_random_strides_are_read_as_numpy_reads_them(file: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strided, "CHUNK", 128)
    monkeypatch.setattr(strided, "BLOCK", 512)
    rng = random.Random(7)
    for gap in (0, 16, 400):
        monkeypatch.setattr(strided, "_CALL", gap)
        for _ in range(150):
            shape = tuple(rng.randint(1, 6) for _ in range(rng.randint(1, 4)))
            one = view(shape, tuple(rng.choice((0, 1, 2, 5, 30, 200)) for _ in shape), rng.randint(0, 50))
            source = Counted(file)
            assert b"".join(map(bytes, chunks(one, source))) == expected(one)
            assert one.contiguous or sum(source.sizes) + gap * len(source.sizes) <= cost(one)
            assert one.contiguous or put_together(one, scattered(one, File(file, 0))) == expected(one)


def test_a_file_that_ends_early_is_no_data(file: int) -> None:
    with pytest.raises(BrokenStorage, match="shorter") as caught:
        list(chunks(view((5001,), (1,)), File(file, 0)))
    assert caught.value.code == "FM113"


# What large ones cost


@pytest.fixture(params=[(1 << 16, 256), (256, 1 << 16), (4096, 4096), (1 << 20, 16)], ids=str)
def transposed(request: pytest.FixtureRequest) -> Iterator[tuple[int, View]]:
    """A file of 64 MB, and all of it as rows of so many that are shown as columns."""
    rows, columns = request.param
    fd = os.memfd_create("large")
    os.ftruncate(fd, 4 * rows * columns)
    yield fd, view((columns, rows), (1, columns))
    os.close(fd)


def test_a_transposed_view_is_scattered_in_few_reads_and_runs_whatever_its_shape(
    transposed: tuple[int, View], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gathered in row-major order, it was read through once for each block of it."""
    monkeypatch.setattr(strided, "BLOCK", 16 << 20)
    fd, one = transposed
    source = Counted(fd)
    runs = [len(piece) for _, piece in scattered(one, source)]
    assert sum(runs) == one.nbytes
    assert sum(source.sizes) + strided._CALL * (len(source.sizes) + len(runs)) <= 6 * one.nbytes
    assert crosswise(one) == (one.shape != (1 << 16, 256))


def test_gathering_a_transposed_view_costs_no_more_than_a_way_through_it_for_each_band(
    transposed: tuple[int, View], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(strided, "BLOCK", 16 << 20)
    fd, one = transposed
    source = Counted(fd)
    assert sum(len(piece) for piece in chunks(one, source)) == one.nbytes
    assert sum(source.sizes) + strided._CALL * len(source.sizes) <= cost(one)
    assert cost(one) <= 5 * one.nbytes * 4
    assert len(source.sizes) <= 20_000


def test_neither_way_holds_more_than_a_block(transposed: tuple[int, View], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strided, "BLOCK", 8 << 20)
    fd, one = transposed
    for pieces in (chunks(one, File(fd, 0)), scattered(one, File(fd, 0))):
        tracemalloc.start()
        for _ in pieces:
            pass
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < (8 << 20) + 5 * strided.CHUNK


def test_a_view_of_layers_in_another_order_of_dimensions_is_read_about_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Channels last, as torch lays out convolutions on request."""
    monkeypatch.setattr(strided, "BLOCK", 1 << 20)
    fd = os.memfd_create("large")
    os.ftruncate(fd, 4 * 256 * 512 * 9)
    one, source = view((256, 512, 3, 3), (4608, 1, 1536, 512)), Counted(fd)
    assert sum(len(piece) for piece in chunks(one, source)) == one.nbytes
    os.close(fd)
    assert sum(source.sizes) <= 1.1 * one.nbytes
    assert not crosswise(one)
