"""Reading a clean file into tensors that lie in the file: as torch.load(weights_only=True, mmap=True), in a quarter of its time.

What torch.load spends on a small file it spends in an unpickler written in Python. Python's own serves here: it is given the few names that
the clean writer writes (torchfile.writer), each standing for a function of this module, and can reach no other.
"""

from __future__ import annotations

import mmap
import os
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from io import BytesIO
from typing import Any

import torch
from torch import Tensor

from fifomark.torchfile.dtypes import DTYPES

_LENGTHS = struct.Struct("<2H")  # of the name and of the extra field, at _LENGTHS_AT in a local header of _HEADER bytes
_LENGTHS_AT, _HEADER = 26, 30
_STORAGES = {dtype.storage: getattr(torch, name) for name, dtype in DTYPES.items() if dtype.storage is not None}


def load_clean(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The tensors of the clean file at `path` by their names, in its order, ties kept. They are mapped, privately: pages are read when they
    are used, and what is written to them stays with us.

    OSError where it cannot be read; zipfile.BadZipFile, pickle.UnpicklingError, or what odd values lead to, where it is no clean file.
    """
    with open(path, "rb") as file, zipfile.ZipFile(file) as archive:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        records = {record.filename.partition("/")[2]: _range(mapped, record) for record in archive.infolist()}
    weights: dict[str, Tensor] = _Unpickler(mapped, records).load()
    return weights


def _range(mapped: mmap.mmap, record: zipfile.ZipInfo) -> tuple[int, int]:
    header = record.header_offset
    return header + _HEADER + sum(_LENGTHS.unpack_from(mapped, header + _LENGTHS_AT)), record.file_size


class _Unpickler(pickle.Unpickler):
    """`records` are (start, size) in `mapped` by their names."""

    def __init__(self, mapped: mmap.mmap, records: Mapping[str, tuple[int, int]]) -> None:
        start, size = records["data.pkl"]
        super().__init__(BytesIO(mapped[start : start + size]))
        self._mapped, self._records = mapped, records
        self._storages: dict[str, Tensor] = {}

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _NAMES[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"{module}.{name} is not what a clean file names") from None

    def persistent_load(self, told: Any) -> Tensor:
        """A storage, as a flat tensor of its numbers, or of its bytes where it is untyped."""
        _, dtype, key, _, count = told
        if key not in self._storages:
            start, size = self._records[f"data/{key}"]
            if count * dtype.itemsize != size:
                raise pickle.UnpicklingError(f"data/{key} has {size} bytes, and is said to have {count} times {dtype.itemsize}")
            whole = torch.frombuffer(self._mapped, dtype=dtype, count=count, offset=start) if count else torch.empty(0, dtype=dtype)
            self._storages[key] = whole
        return self._storages[key]


def _tensor(storage: Tensor, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: object) -> Tensor:
    return storage.as_strided(shape, strides, offset)  # within bounds: torch's check


def _tensor_of_bytes(
    storage: Tensor, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], grad: bool, hooks: object, dtype: torch.dtype
) -> Tensor:
    return _tensor(storage.view(dtype), offset, shape, strides)


_NAMES: dict[tuple[str, str], Callable[..., Any] | torch.dtype] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_tensor_v3"): _tensor_of_bytes,
    ("torch.storage", "UntypedStorage"): torch.uint8,
    **{("torch", storage): dtype for storage, dtype in _STORAGES.items()},
    **{("torch", name): getattr(torch, name) for name in DTYPES},
}
