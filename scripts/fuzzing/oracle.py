"""What must hold of every file: it is described, nothing in it runs, and what we take from it is what torch takes from it.

torch is asked with weights_only=True alone, and only about files that we let through.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fifomark.core.catalogue import find
from fifomark.core.findings import Finding
from fifomark.core.inspection import Inspection, conclude
from fifomark.core.policy import Limits, Policy
from fifomark.sanitizer.forms import choose
from fifomark.sanitizer.inspecting import OpenFile, Target, inspect
from fifomark.sanitizer.opening import open_submission
from fifomark.sanitizer.publishing import Publication
from fifomark.sanitizer.sanitizer import Sanitizer
from fifomark.torchfile.describe import describe
from fifomark.torchfile.description import Description, Entry, Group, decode
from fifomark.torchfile.source import ParseLimits

# Small, so that no mutant costs much: what is beyond them is refused as it is elsewhere.
LIMITS = Limits(
    pickle_bytes=4 << 20,
    inflated_bytes=16 << 20,
    description_bytes=16 << 20,
    clean_bytes=16 << 20,
    expanded_bytes=1 << 20,
    tensors=10_000,
)
OURS = re.compile(r"gave up|it cannot be understood|description of the file cannot be understood|was lost|killed by")


class Wrong(Exception):
    """Something does not hold. The words say what."""


class Direct:
    """The sanitizer without its processes and its sandbox: for speed, and so that an exception of ours is seen as one."""

    def __init__(self) -> None:
        self.description: Description | None = None  # of the last file

    def inspect(self, path: Path, *, clean_to: str, policy: Policy | None = None) -> Inspection:
        opened = open_submission(str(path))
        if isinstance(opened, Finding):
            return conclude(str(path), [opened])
        with opened as file, Publication(clean_to) as target:
            seen = inspect(
                OpenFile(file.fd, str(path), file.version), self._described(file.fd), policy or Policy(), LIMITS, Target(target.fd)
            )
            if seen.clean is not None:
                target.publish()
            return seen

    def _described(self, fd: int) -> Description | Finding:
        budgets = ParseLimits(LIMITS.pickle_bytes, LIMITS.inflated_bytes, LIMITS.description_bytes, LIMITS.tensors)
        body = describe(fd, budgets)
        if len(body) > LIMITS.description_bytes:
            return find("FM208", "the file", f"its description takes more than {LIMITS.description_bytes:,} bytes")
        self.description = decode(body)
        return self.description


class Oracle:
    """Checks files, one after another, in a folder of its own. `stage` is told what is being done, for whoever finds us dead."""

    def __init__(self, folder: Path, marker: Path, stage: Callable[[str], None]) -> None:
        self._direct, self._stage, self._marker = Direct(), stage, marker
        self._sandboxed = Sanitizer(LIMITS).__enter__()
        self._server = self._pid()
        self.path, self._clean = folder / "mutant.pt", folder / "clean.pt"

    def _pid(self) -> int:
        """Of the writer, which is another when it or its parser's server was lost."""
        pid = self._sandboxed.pid
        assert pid is not None
        return pid

    def close(self) -> None:
        self._sandboxed.close()

    def check(self, body: bytes, *, hostile: bool, thoroughly: bool) -> Inspection:
        """The inspection of these bytes; Wrong where something does not hold. `thoroughly` asks the real parser too, and asks twice."""
        self.path.write_bytes(body)
        self._clean.unlink(missing_ok=True)
        self._stage("describing")
        seen = self._inspected(self._direct)
        if thoroughly:
            self._stage("asking the parser's server")
            self._agree(seen)
        self._stage("judging")
        self._sane(seen, hostile)
        if seen.clean is not None:
            self._stage("loading the clean file")
            self._compare(seen)
        if thoroughly:
            self._stage("disarming")
            self._disarm()
        return seen

    def _inspected(self, sanitizer: Sanitizer | Direct, policy: Policy | None = None) -> Inspection:
        self._direct.description = None
        return sanitizer.inspect(self.path, clean_to=str(self._clean), policy=policy)

    def _sane(self, seen: Inspection, hostile: bool) -> None:
        if self._marker.exists():
            self._marker.unlink()
            raise Wrong("the payload has run")
        if hostile and not seen.verdict.refuses:
            raise Wrong(f"it holds a call, and is {seen.verdict}")
        for finding in seen.findings:
            if OURS.search(finding.message):
                raise Wrong(f"our own code failed: {finding.message} ({finding.evidence})")
        if (seen.clean is None) != seen.verdict.refuses:
            raise Wrong(f"it is {seen.verdict}, and there is {'no' if seen.clean is None else 'a'} clean file")

    def _agree(self, seen: Inspection) -> None:
        """The sandboxed sanitizer says the same, and so does the other one when it is asked again."""
        again = self._inspected(self._direct)
        if again != seen:
            raise Wrong(f"two inspections differ: {_difference(seen, again)}")
        real = self._inspected(self._sandboxed)
        if self._pid() != self._server:
            self._server = self._pid()
            raise Wrong("the parser's server or the writer died")
        if real != seen and not any(finding.code == "FM208" for finding in (*real.findings, *seen.findings)):
            raise Wrong(f"the sandboxed parser sees something else: {_difference(seen, real)}")
        self._sane(real, False)
        self._inspected(self._direct)

    def _disarm(self) -> None:
        seen = self._inspected(self._direct, Policy(on_unsafe="disarm"))
        if seen.clean is not None:
            self._taken(seen)

    def _taken(self, seen: Inspection) -> dict[str, torch.Tensor]:
        """The clean file as torch loads it, with the names that the inspection lists."""
        try:
            clean = torch.load(self._clean, weights_only=True, mmap=True)
        except Exception as e:
            raise Wrong(f"the clean file does not load: {type(e).__name__}: {e}") from e
        assert seen.weights is not None
        listed = {tensor.name: (f"torch.{tensor.dtype}", tensor.shape) for tensor in seen.weights.tensors}
        if {name: (str(tensor.dtype), tuple(tensor.shape)) for name, tensor in clean.items()} != listed:
            raise Wrong("the clean file holds other tensors than the inspection lists")
        return clean

    def _compare(self, seen: Inspection) -> None:
        clean = self._taken(seen)
        if seen.form not in ("state_dict", "checkpoint"):
            return
        description = self._direct.description
        assert description is not None
        group, entries = _chosen(description)
        for mapped in (False,) if any(storage.method == 8 for storage in description.storages) else (False, True):
            # torch maps deflated bytes as they are, and shows rubbish.
            self._stage(f"loading the file itself{' mapped' if mapped else ''}")
            try:
                original = torch.load(self.path, weights_only=True, map_location="cpu", mmap=mapped)
            except Exception:
                continue  # torch refuses it in its own way; we may let more through than it does
            compare(clean, original, group, entries, mapped=mapped)


def _chosen(description: Description) -> tuple[Group, tuple[Entry, ...]]:
    """The group that the weights are taken from, with its names as they are in the file; and its entries as they are in the clean one."""
    entries = choose(description).entries
    wanted = [entry.tensor for entry in entries]
    return next(group for group in description.groups if [entry.tensor for entry in group.entries] == wanted), entries


def compare(clean: Mapping[str, torch.Tensor], original: Any, group: Group, entries: tuple[Entry, ...], *, mapped: bool = False) -> None:
    """Wrong where the clean file and what torch loads from the file itself differ: in names, their order, types, shapes or bits.

    `mapped`: torch was asked with mmap=True, where it gives empty tensors that share a storage the type of the first of them.
    """
    for step in group.path:
        original = _under(original, step)
    if not isinstance(original, Mapping):
        raise Wrong(f"torch finds {type(original).__name__} where we find weights")
    # What is under a key that is no name (a tensor, a float, a number without end) is no parameter: we leave it out, and say so.
    theirs = {str(key): value for key, value in original.items() if isinstance(value, torch.Tensor) and _is_name(key)}
    if list(theirs) != [entry.name for entry in group.entries] or list(clean) != [entry.name for entry in entries]:
        raise Wrong(f"torch finds {_listed(theirs)}, we find {_listed([e.name for e in group.entries])}, written as {_listed(clean)}")
    for ours, raw in zip(entries, group.entries, strict=True):
        if (fault := _differ(clean[ours.name], theirs[raw.name])) and not (mapped and not clean[ours.name].numel()):
            raise Wrong(f"{raw.name!r} has {fault}")


def _under(value: Any, step: str) -> Any:
    if isinstance(value, (list, tuple)):
        return value[int(step)]
    if isinstance(value, Mapping):
        found = [item for key, item in value.items() if step in ((str(key),) if _is_name(key) else _nameless(key))]
        if len(found) == 1:
            return found[0]
    raise Wrong(f"torch finds nothing under {step!r}")


def _nameless(key: Any) -> tuple[str, ...]:
    """What we call something under such a key: what pickle builds itself by its type's name, what a global does by its full one."""
    if isinstance(key, tuple):
        return (f"<tuple of {len(key)}>",)
    kind = key if isinstance(key, type) else type(key)
    return f"<{kind.__name__}>", f"<{kind.__module__}.{kind.__qualname__}>"


def _is_name(key: Any) -> bool:
    return type(key) is str or (type(key) is int and key.bit_length() < 64)


def _differ(ours: torch.Tensor, theirs: torch.Tensor) -> str | None:
    if ours.dtype is not theirs.dtype or ours.shape != theirs.shape:
        return f"{ours.dtype} {tuple(ours.shape)} with us, {theirs.dtype} {tuple(theirs.shape)} with torch"
    return None if _bits(ours) == _bits(theirs) else "other bits"


def _bits(tensor: torch.Tensor) -> bytes:
    """Its elements as they lie in memory, row by row. By numpy: torch crashes on mapped complex numbers that are not aligned."""
    if tensor.layout is not torch.strided or tensor.is_conj() or tensor.is_neg():
        raise Wrong(f"torch finds a tensor that is not what its bytes are: {tensor.layout}")
    if not tensor.numel():
        return b""
    raw = torch.empty(0, dtype=torch.uint8).set_(tensor.detach().untyped_storage()).numpy()
    item = tensor.element_size()
    strides = [step * item if size > 1 else 0 for size, step in zip(tensor.shape, tensor.stride(), strict=True)]
    return np.ndarray(tensor.shape, np.dtype((np.void, item)), raw, tensor.storage_offset() * item, strides).tobytes()


def _listed(names: Any) -> str:
    return ", ".join(repr(name)[:60] for name in list(names)[:10]) or "nothing"


def _difference(one: Inspection, other: Inspection) -> str:
    fields = [field for field in one.__struct_fields__ if getattr(one, field) != getattr(other, field)]
    return "; ".join(f"{field}: {getattr(one, field)!r:.300} and {getattr(other, field)!r:.300}" for field in fields)


def in_memory() -> str | None:
    """A folder in memory, where there is one: clean files are synced to disk."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
