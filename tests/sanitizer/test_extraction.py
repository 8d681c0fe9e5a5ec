"""The pass over the bytes: every byte hashed once, every value seen, and the clean file what was seen."""

from __future__ import annotations

import hashlib
import itertools
import os
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from fifomark.sanitizer import extraction
from fifomark.sanitizer.extraction import Extraction, extract
from fifomark.torchfile import digest, inflated, output, strided, views
from fifomark.torchfile.description import Storage
from fifomark.torchfile.dtypes import DTYPES
from fifomark.torchfile.safetensors import CleanSafetensors
from fifomark.torchfile.views import BrokenStorage, View
from fifomark.torchfile.writer import CleanPt

NUMBERS = np.arange(1, 4001, dtype="<f4")


@pytest.fixture(params=["whole", "in pieces"])
def cut(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything again with pieces so small that each tensor is many of them, and with threads that hash."""
    if request.param == "in pieces":
        for module in (extraction, strided, inflated, output):
            monkeypatch.setattr(module, "CHUNK", 256)
        monkeypatch.setattr(strided, "BLOCK", 1024)
        monkeypatch.setattr(digest, "_LARGE", 1)


@pytest.fixture
def fds(tmp_path: Path) -> Iterator[tuple[int, int]]:
    opened = os.memfd_create("in"), os.open(tmp_path / "clean.pt", os.O_RDWR | os.O_CREAT)
    yield opened
    for fd in opened:
        os.close(fd)


def storage(start: int, nbytes: int, crc32: int | None, key: str = "0", stored: int | None = None, method: int = 0) -> Storage:
    return Storage(key=key, start=start, stored=nbytes if stored is None else stored, nbytes=nbytes, method=method, crc32=crc32)  # type: ignore[arg-type]


def view(shape: tuple[int, ...], stride: tuple[int, ...], offset: int = 0, index: int = 0) -> View:
    return View(index, DTYPES["float32"], shape, stride, offset)


def laid_out(fd: int, *, claims: bool) -> tuple[bytes, list[Storage]]:
    """A file of a head, two storages with a gap between, a compressed one, one without bytes, and a tail."""
    first, second = NUMBERS[:3000].tobytes(), NUMBERS[3000:].tobytes()
    machine = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = machine.compress(first) + machine.flush()
    body = b"head" + first + b"gap" + second + packed + b"tail"
    os.write(fd, body)
    at = 4 + len(first) + 3
    crc = (zlib.crc32(first), zlib.crc32(second)) if claims else (None, None)
    return body, [
        storage(4, len(first), crc[0]),
        storage(at, len(second), crc[1], "1"),
        storage(at + len(second), len(first), zlib.crc32(first), "2", len(packed), 8),
        storage(0, 0, None, "3"),
    ]


VIEWS = [
    ("transposed", view((30, 100), (1, 30))),
    ("whole", view((1000,), (1,), index=1)),
    ("part", view((500,), (1,), 7)),
    ("inflated", view((3000,), (1,), index=2)),
    ("empty", view((0, 5), (5, 1), index=3)),
    ("tied", view((1000,), (1,), index=1)),
    ("steps", view((10,), (300,), 1)),
]


@pytest.mark.usefixtures("cut")
@pytest.mark.parametrize("claims", [True, False])
def test_a_file_is_hashed_its_values_seen_and_its_views_written(fds: tuple[int, int], tmp_path: Path, claims: bool) -> None:
    body, storages = laid_out(fds[0], claims=claims)
    before = threading.active_count()
    taken = extract(fds[0], len(body), storages, VIEWS, fds[1], CleanPt)
    assert threading.active_count() == before
    assert (taken.sha256, taken.findings) == (hashlib.sha256(body).hexdigest(), [])
    clean = (tmp_path / "clean.pt").read_bytes()
    assert taken.clean is not None
    assert (taken.clean.size, taken.clean.sha256) == (len(clean), hashlib.sha256(clean).hexdigest())
    loaded = torch.load(tmp_path / "clean.pt", weights_only=True, mmap=True)
    assert list(loaded) == [name for name, _ in VIEWS]
    assert loaded["tied"].data_ptr() == loaded["whole"].data_ptr()
    for name, one in VIEWS:
        source = NUMBERS[3000:] if one.storage == 1 else NUMBERS[:3000]
        truth = np.lib.stride_tricks.as_strided(source[one.offset :], one.shape, [4 * d for d in one.stride])
        assert np.array_equal(loaded[name].numpy(), truth)
    assert taken.weights is not None
    by_name = {tensor.name: tensor for tensor in taken.weights.tensors}
    assert (by_name["transposed"].minimum, by_name["transposed"].maximum, by_name["tied"].tied_to) == (1, 3000, "whole")
    assert taken.weights.parameters == sum(one.numel for one in dict.fromkeys(one for _, one in VIEWS))


@pytest.mark.usefixtures("cut")
def test_the_clean_file_is_the_same_whatever_order_the_storages_have(tmp_path: Path) -> None:
    """The legacy format's is that of their addresses in the memory of whoever saved them."""
    parts = {0: NUMBERS[:500].tobytes(), 1: NUMBERS[500:800].tobytes(), 2: b"hidden..", 3: b""}
    shown = [("a", view((500,), (1,), index=0)), ("none", view((0,), (1,), index=3)), ("b", view((30, 10), (10, 1), index=1))]
    clean = set()
    for order in itertools.permutations(parts):
        body, storages = b"head", dict[int, Storage]()
        for i in order:
            storages[i] = storage(len(body), len(parts[i]), zlib.crc32(parts[i]), str(i))
            body += parts[i]
        (tmp_path / "in").write_bytes(body)
        with open(tmp_path / "in", "rb") as read, open(tmp_path / "clean.pt", "w+b") as out:
            taken = extract(read.fileno(), len(body), [storages[i] for i in sorted(storages)], shown, out.fileno(), CleanPt)
        assert (taken.sha256, taken.findings) == (hashlib.sha256(body).hexdigest(), [])
        clean.add((tmp_path / "clean.pt").read_bytes())
    assert len(clean) == 1


@pytest.mark.usefixtures("cut")
def test_without_a_clean_file_the_rest_is_the_same(fds: tuple[int, int]) -> None:
    body, storages = laid_out(fds[0], claims=True)
    written = extract(fds[0], len(body), storages, VIEWS, fds[1], CleanPt)
    read = extract(fds[0], len(body), storages, VIEWS, None, CleanPt)
    assert read == written._replace(clean=None)


@pytest.mark.usefixtures("cut")
@pytest.mark.parametrize("shown", [VIEWS[:2], VIEWS[1:2]], ids=["in parts", "whole"])
def test_a_wrong_checksum_is_a_finding_and_nothing_is_written(fds: tuple[int, int], shown: list[tuple[str, View]]) -> None:
    body, storages = laid_out(fds[0], claims=True)
    os.pwrite(fds[0], b"\xff", storages[1].start + 5)
    taken = extract(fds[0], len(body), storages, shown, fds[1], CleanPt)
    assert ([finding.code for finding in taken.findings], taken.clean) == (["FM111"], None)


@pytest.mark.parametrize("whole", [True, False])
def test_of_a_tensor_that_changes_while_it_is_read_what_was_judged_is_written(
    fds: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: bool
) -> None:
    """Each byte is looked at once."""
    body, storages = laid_out(fds[0], claims=False)
    monkeypatch.setattr(extraction, "CHUNK", 256)
    monkeypatch.setattr(strided, "CHUNK", 256)
    real: Callable[[int, int, int], bytes] = views.read_exactly

    def meddled(fd: int, at: int, size: int) -> bytes:
        os.pwrite(fds[0], os.urandom(4), storages[1].start + 100)
        return real(fd, at, size)

    for module in (views, extraction):
        monkeypatch.setattr(module, "read_exactly", meddled)
    one = view((1000 if whole else 999,), (1,))
    taken = extract(fds[0], len(body), storages[1:2], [("w", one)], fds[1], CleanPt)
    with zipfile.ZipFile(tmp_path / "clean.pt") as archive:
        assert archive.testzip() is None
        written = np.frombuffer(archive.read("archive/data/0"), "<f4").astype(np.float64)
    assert taken.weights is not None
    (judged,) = taken.weights.tensors
    finite = written[np.isfinite(written)]
    assert judged.minimum == finite.min()
    assert judged.maximum == finite.max()
    assert judged.nan == np.isnan(written).sum()
    assert taken.clean is not None
    assert taken.clean.sha256 == hashlib.sha256((tmp_path / "clean.pt").read_bytes()).hexdigest()


def test_a_file_without_weights_is_hashed(fds: tuple[int, int]) -> None:
    os.write(fds[0], b"abc")
    assert extract(fds[0], 3, (), (), None, CleanPt) == Extraction(hashlib.sha256(b"abc").hexdigest(), [])
    with pytest.raises(BrokenStorage, match="shorter"):
        extract(fds[0], 4, (), (), None, CleanPt)


@pytest.mark.parametrize("form", [CleanPt, CleanSafetensors])
def test_a_large_transposed_view_is_read_and_written_about_once(
    fds: tuple[int, int], monkeypatch: pytest.MonkeyPatch, form: extraction.Format
) -> None:
    """Blocks that each walked the whole storage, twice, made it quadratic."""
    rows, columns = 1 << 14, 128
    numbers = np.arange(rows * columns, dtype="<f4").reshape(rows, columns)
    os.write(fds[0], numbers.tobytes())
    read: list[int] = []
    real: Callable[[int, int, int], bytes] = views.read_exactly
    for module in (views, extraction):
        monkeypatch.setattr(module, "read_exactly", lambda fd, at, size: (read.append(size), real(fd, at, size))[1])
    monkeypatch.setattr(strided, "BLOCK", 1 << 18)
    one = view((columns, rows), (1, columns))
    taken = extract(fds[0], numbers.nbytes, [storage(0, numbers.nbytes, None)], [("t", one)], fds[1], form)
    assert sum(read) <= 3 * numbers.nbytes
    assert taken.clean is not None
    body = os.pread(fds[1], taken.clean.size, 0)
    assert hashlib.sha256(body).hexdigest() == taken.clean.sha256
    assert numbers.T.tobytes() in body
    assert taken.weights == extract(fds[0], numbers.nbytes, [storage(0, numbers.nbytes, None)], [("t", one)], None, form).weights
