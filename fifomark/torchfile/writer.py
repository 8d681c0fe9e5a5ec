"""The clean file: a zip .pt that holds one OrderedDict of plain contiguous tensors, and nothing that could run.

Stored, 64-byte aligned, without times: the same weights give the same bytes. torch.load takes it with weights_only=True and mmap=True.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from math import prod
from typing import NamedTuple, Protocol
from zlib import crc32

from fifomark.torchfile.dtypes import DType
from fifomark.torchfile.output import Output

ROOT = "archive"
ALIGNMENT = 64
_ZIP64 = 0xFFFFFFFF  # a size or an offset from here on goes into a zip64 field
_MANY = 0xFFFF  # and a count of records from here on
_DATE = (1 << 5) | 1  # 1980-01-01, the zip format's first day
_DESCRIBED, _UTF8 = 1 << 3, 1 << 11  # flags: sizes and checksum follow the data; names are UTF-8
_LOCAL = struct.Struct("<4s5H3I2H")
_DESCRIPTOR, _DESCRIPTOR64 = struct.Struct("<4s3I"), struct.Struct("<4sI2Q")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")
_END64 = struct.Struct("<4sQ2H2I4Q")
_LOCATOR = struct.Struct("<4sIQI")


class Plan(NamedTuple):
    """One name in the clean file: it shows all of the storage `storage` (its record is data/<storage>). Ties name the same storage."""

    name: str
    dtype: DType
    shape: tuple[int, ...]
    storage: int

    @property
    def nbytes(self) -> int:
        return prod(self.shape) * self.dtype.itemsize


class CleanFile(Protocol):
    """A clean file under way in any format: the plans are given first, then the bytes of storages 0, 1, … in that order."""

    def storage(self, nbytes: int) -> None:
        """The next storage: exactly `nbytes` will be written to the output, contiguous and little-endian."""

    def written(self, crc: int) -> None:
        """They were, and have the CRC-32 `crc`."""

    def close(self) -> None:
        """Write what comes after the storages."""


class _Record(NamedTuple):
    name: bytes
    start: int
    size: int
    crc: int
    flags: int


class Archive:
    """A zip under way. Headers are written before their data and never touched again, so that what is written can be hashed as it goes.
    As in torch's own files, the checksum of a storage follows it: nothing has to be read twice.

    `zip64_from` is where 32-bit fields end, `many` where 16-bit counts do; tests make them small.
    """

    def __init__(self, out: Output, zip64_from: int = _ZIP64, many: int = _MANY) -> None:
        self._out, self._zip64_from, self._many = out, zip64_from, many
        self._records: list[_Record] = []
        self._end = out.at  # of the last record, as announced

    def add(self, name: str, data: bytes) -> None:
        self._begin(name, len(data), crc32(data), _UTF8)
        self._out.write(data)

    def announce(self, name: str, size: int) -> None:
        """A record whose `size` bytes are written to the output next. What they are is then told by `described`."""
        self._begin(name, size, 0, _UTF8 | _DESCRIBED)

    def described(self, crc: int) -> None:
        """The record that was announced has been written, and has this CRC-32."""
        self._check()
        record = self._records[-1]._replace(crc=crc)
        self._records[-1] = record
        self._out.write((_DESCRIPTOR64 if self._large(record) else _DESCRIPTOR).pack(b"PK\7\x08", crc, record.size, record.size))
        self._end = self._out.at

    def _begin(self, name: str, size: int, crc: int, flags: int) -> None:
        self._check()
        record = _Record(f"{ROOT}/{name}".encode(), self._out.at, size, crc, flags)
        self._out.write(self._header(record))
        self._records.append(record)
        self._end = self._out.at + size

    def close(self) -> None:
        """Write the directory."""
        self._check()
        start = self._out.at
        for record in self._records:
            self._out.write(self._entry(record))
        size, count = self._out.at - start, len(self._records)
        if count >= self._many or start >= self._zip64_from or size >= self._zip64_from:
            locator = _LOCATOR.pack(b"PK\6\7", 0, self._out.at, 1)
            self._out.write(_END64.pack(b"PK\6\6", _END64.size - 12, 45, 45, 0, 0, count, count, size, start) + locator)
            self._out.write(_END.pack(b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, _ZIP64, _ZIP64, 0))
        else:
            self._out.write(_END.pack(b"PK\5\6", 0, 0, count, count, size, start, 0))

    def _check(self) -> None:
        assert self._out.at == self._end, f"{self._out.at - self._end} bytes more were written than announced"

    def _header(self, record: _Record) -> bytes:
        path, large = record.name, self._large(record)
        size = 0 if record.flags & _DESCRIBED else record.size
        extra = struct.pack("<2H2Q", 1, 16, size, size) if large else b""
        # Data begins at a multiple of ALIGNMENT; the padding is an extra field of the kind that torch itself writes ("FB").
        padding = -(record.start + _LOCAL.size + len(path) + len(extra) + 4) % ALIGNMENT
        extra += b"FB" + struct.pack("<H", padding) + b"Z" * padding
        needs, short = (45, _ZIP64) if large else (20, size)
        return _LOCAL.pack(b"PK\3\4", needs, record.flags, 0, 0, _DATE, record.crc, short, short, len(path), len(extra)) + path + extra

    def _entry(self, record: _Record) -> bytes:
        large, far = self._large(record), record.start >= self._zip64_from
        wide = ([record.size, record.size] if large else []) + ([record.start] if far else [])
        extra = struct.pack(f"<2H{len(wide)}Q", 1, 8 * len(wide), *wide) if wide else b""
        short, start = _ZIP64 if large else record.size, _ZIP64 if far else record.start
        needs, path = 45 if wide else 20, record.name
        fixed = (b"PK\1\2", needs, needs, record.flags, 0, 0, _DATE, record.crc, short, short, len(path), len(extra), 0, 0, 0, 0, start)
        return _CENTRAL.pack(*fixed) + path + extra

    def _large(self, record: _Record) -> bool:
        return record.size >= self._zip64_from


class CleanPt:
    """The clean file as torch reads it."""

    def __init__(self, out: Output, plans: Sequence[Plan]) -> None:
        self._archive = Archive(out)
        self._archive.add("data.pkl", pickled(plans))
        self._archive.add("byteorder", b"little")
        self._storages = 0

    def storage(self, nbytes: int) -> None:
        self._archive.announce(f"data/{self._storages}", nbytes)
        self._storages += 1

    def written(self, crc: int) -> None:
        self._archive.described(crc)

    def close(self) -> None:
        self._archive.add("version", b"3\n")
        self._archive.close()


# The pickle: an OrderedDict of name → _rebuild_tensor_v2 or _v3, protocol 2, as torch.save would write it.


def pickled(plans: Sequence[Plan]) -> bytes:
    """data.pkl of a state_dict with these tensors, in this order."""
    memo = _Memo()
    parts = [b"\x80\x02", memo.name("collections", "OrderedDict"), b")R("]
    for plan in plans:
        parts += (_text(plan.name), _tensor(plan, memo))
    return b"".join([*parts, b"u."])


class _Memo:
    """Globals and texts that repeat, each written out once."""

    def __init__(self) -> None:
        self._known: dict[bytes, int] = {}

    def name(self, module: str, name: str) -> bytes:
        return self.once(f"c{module}\n{name}\n".encode())

    def once(self, opcodes: bytes) -> bytes:
        if opcodes in self._known:
            return b"h" + bytes([self._known[opcodes]])
        self._known[opcodes] = len(self._known)
        return opcodes + b"q" + bytes([self._known[opcodes]])


def _tensor(plan: Plan, memo: _Memo) -> bytes:
    typed = plan.dtype.storage is not None
    storage_class = memo.name("torch", plan.dtype.storage) if plan.dtype.storage else memo.name("torch.storage", "UntypedStorage")
    strides, numel = _strides(plan.shape)
    count = numel if typed else numel * plan.dtype.itemsize
    storage = (memo.once(_text("storage")), storage_class, _text(str(plan.storage)), memo.once(_text("cpu")), _int(count))
    hooks = memo.name("collections", "OrderedDict") + b")R"
    shown = (b"(", *storage, b"tQ", _int(0), _ints(plan.shape), _ints(strides), b"\x89", hooks)
    if typed:
        return b"".join([memo.name("torch._utils", "_rebuild_tensor_v2"), b"(", *shown, b"tR"])
    return b"".join([memo.name("torch._utils", "_rebuild_tensor_v3"), b"(", *shown, memo.name("torch", plan.dtype.name), b"tR"])


def _strides(shape: tuple[int, ...]) -> tuple[tuple[int, ...], int]:
    """Row-major strides in elements as torch gives them (a dimension of none counts as one), and the number of elements."""
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(step)
        step *= max(size, 1)
    return tuple(reversed(strides)), 0 if 0 in shape else step


def _text(text: str) -> bytes:
    data = text.encode("utf-8")
    return b"X" + struct.pack("<I", len(data)) + data


def _int(value: int) -> bytes:
    if value < 1 << 8:
        return b"K" + bytes([value])
    if value < 1 << 31:
        return b"J" + struct.pack("<i", value)
    data = value.to_bytes(9, "little")
    return b"\x8a" + bytes([len(data)]) + data


def _ints(values: Sequence[int]) -> bytes:
    return b"(" + b"".join(map(_int, values)) + b"t"
