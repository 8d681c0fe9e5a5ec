"""The format before torch 1.6: five pickles in a row, then the storages one after another, each with its element count.

Layout: torch/serialization.py, _legacy_save and _legacy_load.
"""

from __future__ import annotations

from typing import Any

from fifomark.torchfile.source import Broken, Problem, Source
from fifomark.torchfile.stand_ins import StorageRef, Trace, pairs_of
from fifomark.torchfile.tensors import ITEM_BYTES, STORAGE_DTYPES, StorageTable
from fifomark.torchfile.unpickler import load

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001


class LegacyFile:
    """`root` is the saved object; `table` finds storages. `problems` grows while it is read."""

    def __init__(self, source: Source, trace: Trace, pickle_bytes: int, problems: list[Problem]) -> None:
        """Reads the five pickles and where the storages lie; Broken where there are no such pickles."""
        self.problems = problems
        self.root: Any = None
        self.ranges: dict[str, tuple[str, int, int, int, int, int | None]] = {}
        self.table = StorageTable(self._find)
        stream = source.stream(pickle_bytes)
        self.magic = load(stream, trace, "the magic number", cut="FM107")
        if type(self.magic) is not int or self.magic != MAGIC:
            return
        if load(stream, trace, "the protocol version", cut="FM107") != PROTOCOL:
            raise Broken("FM108", "the protocol version", "is not the one that torch writes (1001)")
        system = load(stream, trace, "the system's description", cut="FM107")
        if [value for key, value in pairs_of(system) or () if key == "little_endian"] != [True]:
            problems.append(Problem("FM114", "the system's description", "the file was saved on a big-endian machine"))
        self.root = load(stream, trace, "the object", cut="FM107")
        keys = load(stream, trace, "the list of storages", cut="FM107")
        self._locate(source, keys, stream.tell())

    def _locate(self, source: Source, keys: Any, start: int) -> None:
        """Where each storage lies. Its type stands in the object's pickle only, so that is read first and remembered by `remember`."""
        if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys) or len(set(keys)) != len(keys):
            raise Broken("FM108", "the list of storages", "is not a list of different names")
        self._keys, self._start, self._source = keys, start, source

    def remember(self, refs: list[StorageRef]) -> None:
        """Lay out the storages, now that every persistent id has been seen."""
        kinds: dict[str, str] = {}
        for ref in refs:
            kinds.setdefault(ref.key, ref.kind)
        at = self._start
        for key in self._keys:
            numel = int.from_bytes(self._source.at(at, 8, f"storage {key}"), "little", signed=True)
            at += 8
            kind = kinds.get(key)
            if kind is None:
                raise Broken("FM108", f"storage {key[:100]}", "is listed, and nothing says of what type it is")
            size = ITEM_BYTES.get(STORAGE_DTYPES.get(kind, ""))
            if size is None or numel < 0:
                raise Broken("FM304", f"storage {key[:100]}", "is of an unknown type or size", f"{numel} of {kind}")
            nbytes = numel * size
            if at + nbytes > self._source.size:
                raise Broken("FM107", f"storage {key[:100]}", f"the file ends {at + nbytes - self._source.size} bytes too early")
            self.ranges[key] = (key, at, nbytes, nbytes, 0, None)
            at += nbytes
        if at != self._source.size:
            raise Broken("FM109", "the end of the file", f"there are {self._source.size - at} bytes after the last storage")

    def _find(self, ref: StorageRef) -> tuple[str, int, int, int, int, int | None]:
        if ref.key not in self.ranges:
            raise Broken("FM107", f"storage {ref.key[:100]}", "is missing from the file")
        return self.ranges[ref.key]
