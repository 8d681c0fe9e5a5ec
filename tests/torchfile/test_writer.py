"""The clean file, against torch's own loader, ours and Python's zipfile."""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from describing import described
from loading import bits, loaded

from fifomark.sanitizer.extraction import Format
from fifomark.torchfile.dtypes import DTYPES, REFUSED
from fifomark.torchfile.output import Output
from fifomark.torchfile.writer import ALIGNMENT, Archive, CleanPt, Plan, pickled


def written(path: Path, plans: list[Plan], storages: list[bytes], form: Format = CleanPt) -> bytes:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    out = Output(fd, sum(map(len, storages)))
    writer = form(out, plans)
    for data in storages:
        writer.storage(len(data))
        out.write(data[: len(data) // 2])
        out.write(data[len(data) // 2 :])
        writer.written(zlib.crc32(data))
    writer.close()
    size, sha256 = out.close()
    os.close(fd)
    body = path.read_bytes()
    assert (size, sha256) == (len(body), hashlib.sha256(body).hexdigest())
    return body


@pytest.mark.parametrize("mmap", [False, True])
@pytest.mark.parametrize("name", DTYPES)
@pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental")
def test_every_dtype_comes_back_from_torch_bit_for_bit(tmp_path: Path, name: str, mmap: bool) -> None:
    dtype = DTYPES[name]
    data = bytes(range(6)) * dtype.itemsize if name != "bool" else b"\0\1\1\0\1\0"
    path = tmp_path / "clean.pt"
    written(path, [Plan("w", dtype, (2, 3), 0)], [data])
    back = loaded(path, mmap=mmap)["w"]
    assert back.dtype is getattr(torch, name)
    assert (tuple(back.shape), bits(back)) == ((2, 3), data)


def test_every_dtype_of_torch_is_either_known_or_refused_by_name() -> None:
    names = {str(value).removeprefix("torch.") for value in vars(torch).values() if isinstance(value, torch.dtype)}
    assert names <= set(DTYPES) | set(REFUSED)
    assert not set(DTYPES) & set(REFUSED)


def test_storage_classes_and_item_sizes_are_torchs() -> None:
    for name, dtype in DTYPES.items():
        kind = getattr(torch, name)
        assert dtype.itemsize == kind.itemsize
        if dtype.storage is not None:
            assert getattr(torch, dtype.storage)._dtype is kind


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (1,), (2, 1, 3), (1,) * 20])
def test_every_shape_comes_back_contiguous(tmp_path: Path, shape: tuple[int, ...]) -> None:
    values = np.arange(np.prod(shape), dtype="<f4").reshape(shape)
    path = tmp_path / "clean.pt"
    written(path, [Plan("w", DTYPES["float32"], shape, 0)], [values.tobytes()])
    back = loaded(path)["w"]
    assert tuple(back.shape) == shape
    assert back.is_contiguous()
    assert np.array_equal(back.numpy(), values)
    assert back.stride() == torch.empty(shape).stride()


def test_ties_share_one_storage(tmp_path: Path) -> None:
    path = tmp_path / "clean.pt"
    written(path, [Plan("a", DTYPES["float32"], (2,), 0), Plan("b", DTYPES["float32"], (2,), 0)], [bytes(8)])
    back = loaded(path)
    assert back["a"].data_ptr() == back["b"].data_ptr()


def test_names_of_any_script_keep_their_order(tmp_path: Path) -> None:
    names = ["weight", "größe", "层.0", "a b", "", "x" * 3000]
    path = tmp_path / "clean.pt"
    written(path, [Plan(name, DTYPES["int64"], (1,), i) for i, name in enumerate(names)], [bytes([i]) + bytes(7) for i in range(6)])
    back = loaded(path)
    assert list(back) == names
    assert [int(value) for value in back.values()] == list(range(6))


def test_the_same_weights_give_the_same_bytes(tmp_path: Path) -> None:
    plans = [Plan("w", DTYPES["float32"], (4,), 0)]
    assert written(tmp_path / "a.pt", plans, [b"x" * 16]) == written(tmp_path / "b.pt", plans, [b"x" * 16])


def test_no_weights_at_all_are_an_empty_state_dict(tmp_path: Path) -> None:
    path = tmp_path / "clean.pt"
    written(path, [], [])
    assert loaded(path) == {}


def test_a_record_that_is_shorter_than_announced_is_a_bug_that_shows(tmp_path: Path) -> None:
    fd = os.open(tmp_path / "a.zip", os.O_RDWR | os.O_CREAT)
    out = Output(fd, 0)
    archive = Archive(out)
    archive.announce("x", 4)
    out.write(b"abc")
    with pytest.raises(AssertionError, match="-1 bytes more were written than announced"):
        archive.described(zlib.crc32(b"abc"))
    os.close(fd)


@pytest.mark.parametrize(("zip64_from", "many"), [(1 << 32, 1 << 16), (100, 1 << 16), (1, 1 << 16), (1 << 32, 2)])
def test_zip64_fields_are_read_by_zipfile_and_torch(tmp_path: Path, zip64_from: int, many: int) -> None:
    path = tmp_path / "a.pt"
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    out = Output(fd, 0)
    archive = Archive(out, zip64_from, many)
    plans = [Plan("w", DTYPES["uint8"], (1000,), 0)]
    records = {"data.pkl": pickled(plans), "byteorder": b"little", "data/0": bytes(range(250)) * 4, "version": b"3\n"}
    for name, data in records.items():
        if name == "data/0":
            archive.announce(name, len(data))
            out.write(data)
            archive.described(zlib.crc32(data))
        else:
            archive.add(name, data)
    archive.close()
    out.close()
    os.close(fd)
    with zipfile.ZipFile(path) as read:
        assert read.testzip() is None
        assert {info.filename.removeprefix("archive/"): read.read(info) for info in read.infolist()} == records
        assert {info.date_time for info in read.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    back = loaded(path)["w"]
    assert back.numpy().tobytes() == records["data/0"]
    if zip64_from == 1 << 32:
        seen = described(path.read_bytes())
        assert (seen.problems, seen.members) == ((), ())


def test_every_records_data_is_aligned(tmp_path: Path) -> None:
    plans = [Plan(f"w{i}", DTYPES["uint8"], (i,), i) for i in range(30)]
    data = written(tmp_path / "a.pt", plans, [b"\xa5" * i for i in range(30)])
    with zipfile.ZipFile(io.BytesIO(data)) as read:
        for info in read.infolist():
            name, extra = (int.from_bytes(data[info.header_offset + at :][:2], "little") for at in (26, 28))
            assert (info.header_offset + 30 + name + extra) % ALIGNMENT == 0
