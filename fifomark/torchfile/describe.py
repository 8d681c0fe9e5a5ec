"""The parser: from an open file to its description (torchfile.description) as JSON. Describes, judges nothing, runs nothing.

Standard library only: this runs in a forked, locked-down child that reads hostile bytes.
"""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable
from typing import Any

from fifomark.torchfile import foreign, legacy
from fifomark.torchfile.archive import Archive, Member
from fifomark.torchfile.source import Broken, ParseLimits, Problem, Source
from fifomark.torchfile.structure import Structure, is_module, is_script, pairs_of, what
from fifomark.torchfile.tensors import QUIET, StorageTable, Tensors
from fifomark.torchfile.unpickler import StorageRef, Trace, load

_METADATA = ("version", "byteorder", ".format_version", ".storage_alignment", ".data/serialization_id", ".data/version")
MAX_PROBLEMS = 200


def describe(fd: int, limits: ParseLimits) -> bytes:
    """The description of the file open at `fd`: JSON that `torchfile.description.decode` takes, of at most `limits.description_bytes`.

    Never raises for what is wrong with the file: that is a problem in the description.
    """
    parse = _Parse(Source(fd), limits)
    try:
        parse.run()
    except Broken as e:
        parse.problems.append(e.problem)
    except (MemoryError, RecursionError) as e:
        parse.problems.append(Problem("FM208", "the file", f"reading it takes too much: {type(e).__name__}"))
    body = parse.told()
    if len(body) <= limits.description_bytes:
        return body
    parse.forget()
    parse.problems.append(Problem("FM208", "the file", f"its description takes more than {limits.description_bytes} bytes"))
    return parse.told()


class _Parse:
    """One file on its way to a description."""

    def __init__(self, source: Source, limits: ParseLimits) -> None:
        self.source, self.limits = source, limits
        self.problems: list[Problem] = []
        self.container: str | None = None
        self.foreign: str | None = None
        self.root: str | None = None
        self.root_keys: list[str] = []
        self.trace = Trace(QUIET)
        self.tensors: Tensors | None = None
        self.structure: Structure | None = None
        self.members: list[tuple[str, int]] = []

    def forget(self) -> None:
        """Drop everything that a hostile file can make long."""
        self.tensors = self.structure = None
        self.members, self.root_keys = [], []
        self.trace = Trace(QUIET)

    def run(self) -> None:
        head = self.source.at(0, min(self.source.size, 4096))
        if head.startswith(b"PK\x03\x04"):
            self._zip()
        elif head[:1] == b"\x80" or not (known := foreign.name_of(head, self.source.size)):
            self._pickles(head)
        else:
            self.foreign = known
            if known == "a text file":
                self._perhaps_a_pickle()

    # Zip and TorchScript

    def _zip(self) -> None:
        archive = Archive(self.source)
        self.problems += archive.problems
        names = list(archive.members)
        roots = {name.split("/", 1)[0] for name in names if "/" in name}
        pickles = [root for root in roots if f"{root}/data.pkl" in archive.members]
        if not pickles:
            self.foreign = foreign.archive_of(names)
            return
        if len(roots) > 1 or any("/" not in name for name in names):
            raise Broken("FM109", "the archive", "has more than one root folder", ", ".join(sorted(roots)[:5]))
        prefix = f"{pickles[0]}/"
        if any(name.endswith(".data/extern_modules") for name in names):
            self.foreign = foreign.archive_of(names)
            return
        script = f"{prefix}constants.pkl" in archive.members or any(name.startswith(f"{prefix}code/") for name in names)
        self.container = "torchscript" if script else "zip"
        self._byteorder(archive, f"{prefix}byteorder")
        self._zip_pickles(archive, prefix)

    def _byteorder(self, archive: Archive, name: str) -> None:
        member = archive.members.get(name)
        if member is not None and (order := archive.read(member, 1024).strip()) != b"little":
            self.problems.append(Problem("FM114", name, "the file was saved on a big-endian machine", repr(order[:40])))

    def _zip_pickles(self, archive: Archive, prefix: str) -> None:
        """data.pkl is the model; every other pickle is read for what it would run."""
        table = StorageTable(lambda ref: self._record(archive, f"{prefix}data/{ref.key}", ref))
        root, self.tensors = None, Tensors(table, self.trace, self.limits.tensors, self.problems)
        read: set[str] = set()
        budget = self.limits.pickle_bytes
        for name in sorted((n for n in archive.members if n.endswith("pkl")), key=lambda n: n != f"{prefix}data.pkl"):
            data = archive.read(archive.members[name], budget)
            budget -= len(data)
            value = self._guarded(self._whole, data, name)
            root = value if name == f"{prefix}data.pkl" else root
            read.add(name)
        self._structured(root)
        known = read | {prefix + name for name in _METADATA} | {f"{prefix}data/{storage[0]}" for storage in table.used}
        if self.container == "torchscript":
            known |= {name for name in archive.members if name.startswith((f"{prefix}code/", f"{prefix}constants/"))}
        self.members = [(m.name, m.nbytes) for m in archive.members.values() if m.name not in known and not m.name.endswith("/")]

    def _whole(self, data: bytes, name: str) -> Any:
        stream = io.BufferedReader(io.BytesIO(data))
        value = load(stream, self.trace, name)
        if stream.tell() != len(data):
            self.problems.append(Problem("FM209", name, f"{len(data) - stream.tell()} bytes follow the end of the pickle"))
        return value

    def _record(self, archive: Archive, name: str, ref: StorageRef) -> tuple[str, int, int, int, int, int | None]:
        member: Member | None = archive.members.get(name)
        if member is None:
            raise Broken("FM107", f"storage {ref.key[:100]}", "is missing from the archive", name[:300])
        if member.nbytes > self.limits.inflated_bytes and member.method == 8:
            raise Broken("FM110", name, f"inflates to {member.nbytes} bytes; at most {self.limits.inflated_bytes} are read")
        return (ref.key, member.start, member.stored, member.nbytes, member.method, member.crc32)

    # Legacy, and pickles that torch did not write

    def _pickles(self, head: bytes) -> None:
        try:
            file = legacy.LegacyFile(self.source, self.trace, self.limits.pickle_bytes, self.problems)
        except Broken as e:
            if not self.trace.uses and not (head[:1] == b"\x80" and head[1:2] <= b"\x05"):
                return  # no pickle at all, and nothing that we know
            self.foreign = "a pickle that torch.save did not write"
            if self._looks_legacy(head):
                self.foreign, self.container = None, "legacy"
            self.problems.append(e.problem)
            return
        if file.magic != legacy.MAGIC:
            self.foreign = "a pickle that torch.save did not write"
            return
        self.container = "legacy"
        file.remember(self.trace.refs)
        self.tensors = Tensors(file.table, self.trace, self.limits.tensors, self.problems)
        self._structured(file.root)
        used = {storage[0] for storage in file.table.used}
        self.members = [(f"storage {key}", span[2]) for key, span in file.ranges.items() if key not in used]

    @staticmethod
    def _looks_legacy(head: bytes) -> bool:
        return legacy.MAGIC.to_bytes(10, "little") in head[:32]

    def _perhaps_a_pickle(self) -> None:
        """Protocol 0 is text. Believed only when something would have been called, so that prose stays prose."""
        trace, self.trace = self.trace, Trace(QUIET)
        with contextlib.suppress(Broken):
            load(self.source.stream(), self.trace, "the file")
        if not self.trace.calls:
            self.trace = trace

    # What was saved

    def _guarded(self, step: Callable[..., Any], *args: Any) -> Any:
        """Run one step; what is wrong with it is a problem, and the next pickle is read all the same."""
        try:
            return step(*args)
        except Broken as e:
            self.problems.append(e.problem)
            return None

    def _structured(self, root: Any) -> None:
        assert self.tensors is not None
        self.structure = Structure(self.tensors)
        self._guarded(self.structure.walk, root)
        pairs = pairs_of(root)
        self.root = "module" if is_module(root) else "script" if is_script(root) else "mapping" if pairs is not None else what(root)
        self.root_keys = [key for key, _ in (pairs or ())[:500] if isinstance(key, str)]

    # The description

    def told(self) -> bytes:
        storages = self.tensors.storages.used if self.tensors else []
        tensors = self.tensors.list if self.tensors else []
        described = {
            "container": self.container,
            "foreign": self.foreign,
            "root": self.root and self.root[:400],
            "root_keys": [key[:400] for key in self.root_keys],
            "problems": [
                {"code": p.code, "where": p.where[:400], "message": p.message[:4000], "evidence": p.evidence[:4000] if p.evidence else None}
                for p in self.problems[:MAX_PROBLEMS]
            ],
            "globals": self._globals(),
            "calls": [
                {"name": name[:400], "text": text, "where": where[:400]}
                for name, calls in self.trace.calls.items()
                for text, where in calls
            ],
            "storages": [
                {"key": key[:400], "start": start, "stored": stored, "nbytes": nbytes, "method": method, "crc32": crc}
                for key, start, stored, nbytes, method, crc in storages
            ],
            "tensors": [
                {"storage": storage, "dtype": dtype, "shape": shape, "stride": stride, "offset": offset}
                for storage, dtype, shape, stride, offset in tensors
            ],
            "groups": self.structure.groups if self.structure else [],
            "layers": self.structure.layers if self.structure else [],
            "members": [{"name": name[:400], "nbytes": nbytes} for name, nbytes in self.members],
        }
        return _json(described)

    def _globals(self) -> list[dict[str, Any]]:
        """Each global with its uses; a class built as modules are is "module" or "script" only where every one of its instances is."""
        built: dict[str, list[Any]] = {}
        for node in self.trace.built:
            built.setdefault(type(node).full_name, []).append(node)
        listed = []
        for name, uses in self.trace.uses.items():
            kinds = dict(uses)
            if "new" in kinds:
                where = kinds["new"]
                nodes = built.get(name, [])
                if nodes and all(map(is_script, nodes)):
                    kinds = {**{k: w for k, w in kinds.items() if k != "new"}, "script": where}
                elif nodes and all(map(is_module, nodes)):
                    kinds = {**{k: w for k, w in kinds.items() if k != "new"}, "module": where}
            listed.append({"name": name[:400], "where": next(iter(uses.values()))[:400], "uses": list(kinds)})
        return listed


def _json(value: Any) -> bytes:
    """JSON in ASCII; lone surrogates, which JSON readers refuse, are replaced."""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode("utf-8", "replace")
