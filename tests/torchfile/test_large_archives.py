"""Archives beyond 4 GB, laid out as torch lays them out, in files with holes; and archives of very many records."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path
from typing import BinaryIO

import builders as b
import pytest
from describing import described

from fifomark.torchfile.describe import describe
from fifomark.torchfile.description import Description, decode
from fifomark.torchfile.source import ParseLimits

HUGE = (4 << 30) + 12  # bytes of the storage in the middle
MARK = 0xFFFFFFFF  # a size or an offset that stands in the zip64 field


class SparseZip:
    """A zip as torch writes it, with descriptors, of which a record may be a hole of any size."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._directory: list[bytes] = []

    def add(self, name: str, size: int, data: bytes = b"") -> int:
        """Write a record of `data`, then of a hole up to `size`; gives the place where its bytes begin."""
        raw, at, wide = name.encode(), self._file.tell(), size >= MARK
        extra = struct.pack("<2H2Q", 1, 16, size, 0) if wide else b""  # torch fills in the first of them only
        self._file.write(struct.pack("<4s5H3L2H", b"PK\x03\x04", 0, 0x0808, 0, 0, 0, 0, 0, 0, len(raw), len(extra)) + raw + extra)
        start = self._file.tell()
        self._file.write(data)
        self._file.seek(start + size)
        crc = zlib.crc32(data)
        self._file.write(b"PK\x07\x08" + struct.pack("<L2Q" if wide else "<3L", crc, size, size))
        fields = ([size, size] if wide else []) + ([at] if at >= MARK else [])
        extra = struct.pack(f"<2H{len(fields)}Q", 1, 8 * len(fields), *fields) if fields else b""
        short, place = (MARK if wide else size), min(at, MARK)
        head = (b"PK\x01\x02", 0, 0, 0x0808, 0, 0, 0, crc, short, short, len(raw), len(extra), 0, 0, 0, 0, place)
        self._directory.append(struct.pack("<4s6H3L5H2L", *head) + raw + extra)
        return start

    def close(self) -> None:
        start = self._file.tell()
        directory = b"".join(self._directory)
        count, size = len(self._directory), len(directory)
        end = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 0x031E, 45, 0, 0, count, count, size, start)
        locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, start + size, 1)
        short = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, count, count, size, min(start, MARK), 0)
        self._file.write(directory + end + locator + short)


@pytest.fixture
def hollow(tmp_path: Path) -> Path:
    """A file that may have holes; skips where the file system would fill them."""
    path = tmp_path / "large.pt"
    with path.open("wb") as file:
        file.truncate(64 << 20)
    if path.stat().st_blocks * 512 > 32 << 20:
        pytest.skip("the file system has no sparse files")
    return path


def described_at(path: Path) -> Description:
    fd = os.open(path, os.O_RDONLY)
    try:
        return decode(describe(fd, ParseLimits()))
    finally:
        os.close(fd)


def test_storages_of_more_than_4_gb_and_what_lies_behind_them_are_found(hollow: Path) -> None:
    tensors = b.tensor("0", (HUGE // 4,)), b.tensor("1", (3,))
    pickle = b.pickled(b.dict_of((b.text("large"), tensors[0]), (b.text("after"), tensors[1])))
    with hollow.open("wb") as file:
        archive = SparseZip(file)
        archive.add("large/data.pkl", len(pickle), pickle)
        archive.add("large/byteorder", 6, b"little")
        starts = [archive.add("large/data/0", HUGE), archive.add("large/data/1", 12, b.floats(3))]
        archive.add("large/version", 2, b"3\n")
        archive.close()
    seen = described_at(hollow)
    assert (seen.problems, seen.members) == ((), ())
    assert [(storage.key, storage.start, storage.nbytes) for storage in seen.storages] == [("0", starts[0], HUGE), ("1", starts[1], 12)]
    assert starts[1] > 1 << 32
    assert [tensor.shape for tensor in seen.tensors] == [(HUGE // 4,), (3,)]


def test_a_directory_beyond_4_gb_that_lies_elsewhere_is_ambiguous(hollow: Path) -> None:
    pickle = b.pickled(b.dict_of())
    with hollow.open("wb") as file:
        archive = SparseZip(file)
        archive.add("large/data.pkl", len(pickle), pickle)
        archive.add("large/data/0", HUGE)
        file.seek(64, os.SEEK_CUR)
        archive.close()
    assert [problem.code for problem in described_at(hollow).problems] == ["FM109"]


def with_records(count: int, name: str, extra: bytes = b"") -> bytes:
    """An archive whose model is followed by so many empty records."""
    pickle = b.pickled(b.dict_of())
    records = [("archive/data.pkl", pickle), *((name.format(i), b"") for i in range(count))]
    out, directory = bytearray(), bytearray()
    for given, data in records:
        raw, said = given.encode(), (zlib.crc32(data), len(data), len(data))
        sizes = (*said, len(given.encode()), len(extra))
        directory += struct.pack("<4s6H3L5H2L", b"PK\x01\x02", 20, 20, 0x800, 0, 0, 0, *sizes, 0, 0, 0, 0, len(out)) + raw + extra
        out += struct.pack("<4s5H3L2H", b"PK\x03\x04", 20, 0x800, 0, 0, 0, *sizes) + raw + extra + data
    size, start, total = len(directory), len(out), len(records)
    out += directory
    out += struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, total, total, size, start)
    out += struct.pack("<4sLQL", b"PK\x06\x07", 0, start + size, 1)
    return bytes(out + struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, MARK, MARK, 0))


def test_very_many_records_are_listed_or_too_many() -> None:
    assert len(described(with_records(70_000, "archive/x{}")).members) == 70_000
    assert [problem.code for problem in described(with_records(250_000, "archive/x{}")).problems] == ["FM110"]


def test_more_extra_fields_than_any_program_writes_are_refused() -> None:
    """A thousand headers of sixteen thousand empty fields each would take their time."""
    field = struct.pack("<2H", 0x7075, 0)
    assert [problem.code for problem in described(with_records(2, "archive/x{}", field * 64)).problems] == []
    assert [problem.code for problem in described(with_records(2, "archive/x{}", field * 65)).problems] == ["FM109"]
