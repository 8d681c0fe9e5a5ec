"""The parser: from an open file to its description (torchfile.description) as JSON. Describes, judges nothing, runs nothing.

Standard library only: this runs in a forked, locked-down child that reads hostile bytes.
"""

from __future__ import annotations

import gc
import io
import json
import re
from collections.abc import Callable
from typing import Any

from fifomark.torchfile import foreign, legacy
from fifomark.torchfile.archive import Archive, Member
from fifomark.torchfile.arguments import FITS
from fifomark.torchfile.rebuilders import REBUILT
from fifomark.torchfile.source import Broken, ParseLimits, Problem, Source, place_of
from fifomark.torchfile.stand_ins import Inert, StorageRef, Trace, pairs_of
from fifomark.torchfile.structure import Structure, is_module, is_script, what
from fifomark.torchfile.tensors import MAX_PROBLEMS, QUIET, StorageTable, Tensors
from fifomark.torchfile.unpickler import load

# What torch writes about the archive itself, in a few characters each; more than that is something else under their names.
_METADATA = ("version", "byteorder", ".format_version", ".storage_alignment", ".data/serialization_id", ".data/version")
_SPELT = {name.casefold(): name for name in ("data.pkl", "constants.pkl", "data/", *_METADATA)}
_FITS = {**FITS, **REBUILT}
_MAX_METADATA = 64  # bytes
_LEGACY_MAGIC = legacy.MAGIC.to_bytes(10, "little")
_SURROGATE = re.compile("[\ud800-\udfff]")
_JSON = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def describe(fd: int, limits: ParseLimits) -> bytes:
    """The description of the file open at `fd`: JSON that `torchfile.description.decode` takes, of at most `limits.description_bytes`.

    Never raises for what is wrong with the file: that is a problem in the description.
    """
    collecting = gc.isenabled()
    gc.disable()  # a hundred thousand objects live until the end: looking for garbage among them doubles the time
    try:
        parse = _Parse(Source(fd), limits)
        parse.guarded(parse.run)
        return parse.bounded()
    finally:
        if collecting:
            gc.enable()


class _Parse:
    """One file on its way to a description."""

    def __init__(self, source: Source, limits: ParseLimits) -> None:
        self.source, self.limits = source, limits
        self.problems: list[Problem] = []
        self.container: str | None = None
        self.foreign: str | None = None
        self.root: str | None = None
        self.root_keys: list[str] = []
        self.trace = Trace(QUIET, _FITS)
        self.tensors: Tensors | None = None
        self.structure: Structure | None = None
        self.members: list[tuple[str, int]] = []

    def guarded(self, step: Callable[..., Any], *args: Any) -> Any:
        """Run one step; what is wrong with it is a problem, and what was seen until then stays."""
        try:
            return step(*args)
        except Broken as e:
            self.problems.append(e.problem)
        except (MemoryError, RecursionError) as e:
            self.problems.append(Problem("FM208", "the file", f"reading it takes too much: {type(e).__name__}"))
        except Exception as e:  # hostile bytes end in a description, whatever they made of our own code
            self.problems.append(Problem("FM207", "the file", "it cannot be understood", place_of(e)))
        return None

    def bounded(self) -> bytes:
        """The description, without its tensors, and then without its calls, where it would be too long."""
        for shorten in (self._forget_tensors, self._forget_code):
            body: bytes | None = self.guarded(self._told)
            if body is not None and len(body) <= self.limits.description_bytes:
                return body
            shorten()
        return self._told()

    def _forget_tensors(self) -> None:
        self.tensors = self.structure = None
        self.members, self.root_keys = [], []
        self.problems.insert(0, Problem("FM208", "the file", f"its description takes more than {self.limits.description_bytes} bytes"))

    def _forget_code(self) -> None:
        self.trace, self.problems = Trace(QUIET, _FITS), self.problems[:1]

    def run(self) -> None:
        head = self.source.at(0, min(self.source.size, 4096))
        if head.startswith(b"PK\x03\x04"):
            self._zip()
        elif not head:
            self.foreign = "an empty file"
            self.problems.append(Problem("FM105", "the file", "it has no bytes"))
        else:
            self._pickles(head)

    # Zip and TorchScript

    def _zip(self) -> None:
        archive = Archive(self.source)
        names = list(archive.members)
        ends = [name for name in names if name[-8:].casefold() == "data.pkl"]
        pickled = [name for name in ends if name.count("/") <= 1 and name.rsplit("/", 1)[-1].casefold() == "data.pkl"]
        if not pickled or any(name.endswith(".data/extern_modules") for name in names):
            self.foreign = foreign.archive_of(names)
            return
        self.container = "zip"
        self.problems += archive.problems
        archive.check()
        prefix = names[0].split("/", 1)[0] + "/"  # the first member's folder is the root: so torch has it
        if pickled != [f"{prefix}data.pkl"] or not all(name.startswith(prefix) for name in names):
            raise Broken(
                "FM109", "the archive", "has more than one root folder, or a data.pkl beside its root", ", ".join(pickled[:5])[:300]
            )
        _check_spelling(names, prefix)
        script = f"{prefix}constants.pkl" in archive.members or any(name.startswith(f"{prefix}code/") for name in names)
        self.container = "torchscript" if script else self.container
        self._byteorder(archive, f"{prefix}byteorder")
        if script:
            self._scripts(archive, f"{prefix}code/")
        self._zip_pickles(archive, prefix)

    def _byteorder(self, archive: Archive, name: str) -> None:
        member = archive.members.get(name)
        if member is not None and (order := archive.read(member, 1024).strip()) != b"little":
            self.problems.append(Problem("FM114", name, "the file was saved on a big-endian machine", repr(order[:40])))

    def _scripts(self, archive: Archive, folder: str) -> None:
        """A class of a TorchScript archive may say what loading it runs."""
        budget = self.limits.pickle_bytes
        for member in archive.members.values():
            if member.name.startswith(folder) and member.name.endswith(".py"):
                code = archive.read(member, budget)
                budget -= len(code)
                if b"__setstate__" in code:
                    self.problems.append(Problem("FM201", member.name, "loading this file runs the __setstate__ of a TorchScript class"))
                    return

    def _zip_pickles(self, archive: Archive, prefix: str) -> None:
        """data.pkl is the model; every other pickle is read for what it would run."""
        table = StorageTable(lambda ref: self._record(archive, f"{prefix}data/{ref.key}", ref))
        root: Any = None
        refs: list[StorageRef] = []
        rebuilt: list[Inert] = []
        self.tensors = Tensors(table, self.trace, self.limits.tensors, self.problems)
        read: set[str] = set()
        budget = self.limits.pickle_bytes
        for name in sorted((n for n in archive.members if n.endswith("pkl")), key=lambda n: n != f"{prefix}data.pkl"):
            data = archive.read(archive.members[name], budget)
            budget -= len(data)
            value = self.guarded(self._whole, data, name)
            read.add(name)
            if name == f"{prefix}data.pkl":  # the first
                root, refs, rebuilt = value, list(self.trace.refs), list(self.trace.rebuilt)
        self._structured(root, rebuilt)
        self.guarded(table.complete, refs)
        known = read | {f"{prefix}data/{storage[0]}" for storage in table.used}
        if self.container == "torchscript":
            known |= {name for name in archive.members if name.startswith((f"{prefix}code/", f"{prefix}constants/"))}
        strangers = [m for m in archive.members.values() if m.name not in known and not _is_metadata(m, prefix)]
        self.members = [(m.name, m.nbytes) for m in strangers if m.nbytes or m.name[-1] != "/"]

    def _whole(self, data: bytes, name: str) -> Any:
        stream = io.BufferedReader(io.BytesIO(data), len(data) + 1)  # one look ahead: all of it
        value = load(stream, self.trace, name, cut="FM207")
        if stream.tell() != len(data):
            self.problems.append(Problem("FM209", name, f"{len(data) - stream.tell()} bytes follow the end of the pickle"))
        return value

    def _record(self, archive: Archive, name: str, ref: StorageRef) -> tuple[str, int, int, int, int, int | None]:
        member: Member | None = archive.members.get(name)
        if member is None:
            raise Broken("FM107", f"storage {ref.key[:100]}", "is missing from the archive", name[:300])
        if name.endswith("/"):
            raise Broken("FM109", name, "some readers take this record for a folder, and find no bytes in it")
        if member.nbytes > self.limits.inflated_bytes and member.method == 8:
            raise Broken("FM110", name, f"inflates to {member.nbytes} bytes; at most {self.limits.inflated_bytes} are read")
        return (ref.key, member.start, member.stored, member.nbytes, member.method, member.crc32)

    # Legacy, and pickles that torch did not write

    def _pickles(self, head: bytes) -> None:
        known = foreign.name_of(head, self.source.size)
        try:
            file = legacy.LegacyFile(self.source, self.trace, self.limits.pickle_bytes, self.problems)
        except Broken as e:
            self._no_legacy(head, known, e.problem)
            return
        if file.magic != legacy.MAGIC:
            self._no_legacy(head, known, None)
            return
        self.container = "legacy"
        if foreign.is_tar(head):
            raise Broken("FM109", "the file", "it is a tar archive and a row of pickles at once")
        file.remember(self.trace.refs)
        self.tensors = Tensors(file.table, self.trace, self.limits.tensors, self.problems)
        self._structured(file.root, self.trace.rebuilt)
        self.guarded(file.table.complete, self.trace.refs)
        used = {storage[0] for storage in file.table.used}
        self.members = [(f"storage {key}", span[2]) for key, span in file.ranges.items() if key not in used]

    def _no_legacy(self, head: bytes, known: str | None, problem: Problem | None) -> None:
        """Name what the file is instead. Any bytes read as a pickle for a while: that counts where something would have come of it."""
        whole = problem is None
        marked = head[:1] == b"\x80" and head[1:2] <= b"\x05"  # PROTO
        if _LEGACY_MAGIC in head[:32] and not whole:
            self.container = "legacy"
        elif marked or self.trace.calls or (self.trace.uses and (whole or known is None)):
            self.foreign = "a pickle that torch.save did not write"
        else:
            self.foreign, self.trace = known, Trace(QUIET, _FITS)
            return
        if problem is not None:
            self.problems.append(problem)

    # What was saved

    def _structured(self, root: Any, rebuilt: list[Inert]) -> None:
        """`rebuilt`: every tensor of the pickle, also where nobody looks for weights."""
        assert self.tensors is not None
        self.structure = Structure(self.tensors)
        self.guarded(self.structure.walk, root)
        self.guarded(self.tensors.complete, rebuilt)
        self.guarded(_check_texts, self.structure)
        pairs = pairs_of(root)
        self.root = "module" if is_module(root) else "script" if is_script(root) else "mapping" if pairs is not None else what(root)
        self.root_keys = [key for key, _ in (pairs or ())[:500] if isinstance(key, str)]

    # The description

    def _told(self) -> bytes:
        storages = self.tensors.storages.used if self.tensors else []
        tensors = self.tensors.list if self.tensors else []
        described = {
            "container": self.container,
            "foreign": self.foreign,
            "root": self.root and self.root[:400],
            "root_keys": [key[:400] for key in self.root_keys],
            "problems": [
                {"code": p.code, "where": p.where[:400], "message": p.message[:4000], "evidence": p.evidence[:4000] if p.evidence else None}
                for p in list(dict.fromkeys(self.problems))[:MAX_PROBLEMS]
            ],
            "globals": self._globals(),
            "calls": [
                {"name": name[:400], "text": text, "where": where[:400]}
                for name, calls in self.trace.calls.items()
                for text, where in calls
            ],
            "storages": [(key[:400], *span) for key, *span in storages],
            "tensors": tensors,
            "groups": self.structure.groups if self.structure else [],
            "layers": self.structure.layers if self.structure else [],
            "members": [(name[:400], nbytes) for name, nbytes in self.members],
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


def _is_metadata(member: Member, prefix: str) -> bool:
    return member.nbytes <= _MAX_METADATA and member.name[len(prefix) :] in _METADATA


def _check_spelling(names: list[str], prefix: str) -> None:
    """Broken where torch, whose zip reader ignores case, would find a record that we would not."""
    for name in names:
        tail = name[len(prefix) :]
        part = tail[:5] if tail[:5].casefold() == "data/" else tail
        if _SPELT.get(part.casefold(), part) != part:
            raise Broken("FM109", name, "some readers take it for another record: they ignore case", _SPELT[part.casefold()])


def _check_texts(structure: Structure) -> None:
    """Broken where a name is no text: a lone surrogate can be written to no file, and under another name it would be another tensor."""
    for group in structure.groups:
        names = [*group["path"], *(name for name, _ in group["entries"])]
        if _SURROGATE.search("\0".join(names)):
            broken = next(filter(_SURROGATE.search, names))
            raise Broken("FM304", broken[:100], "a name that is no text: it has half a character in it")


def _json(value: Any) -> bytes:
    """JSON in UTF-8. Lone surrogates, which JSON readers refuse, become private characters, one for one."""
    text = _JSON.encode(value)
    try:
        return text.encode()
    except UnicodeEncodeError:
        return _SURROGATE.sub(lambda found: chr(ord(found[0]) - 0xD800 + 0xE000), text).encode()
