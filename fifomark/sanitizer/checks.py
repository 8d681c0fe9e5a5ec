"""What the description claims of tensors and storages, compared with the file and the limits before a byte is taken.

All arithmetic is on Python's integers, which do not overflow.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from math import prod
from typing import NamedTuple

from fifomark.core.catalogue import find
from fifomark.core.findings import Finding, Level
from fifomark.core.policy import Limits
from fifomark.torchfile.description import Description, Entry, Storage, Tensor
from fifomark.torchfile.dtypes import DTYPES, unsupported
from fifomark.torchfile.inflated import forwards
from fifomark.torchfile.strided import BLOCK, cost
from fifomark.torchfile.views import View

MAX_FINDINGS = 50  # of one kind; a file may have a hundred thousand broken tensors
_MAX_BYTES = 1 << 62
_SHOWN = 20
_REMEMBERED = 1024  # views
# What a file may cost beside what an honest one of its size does; a small one makes nobody wait.
_INFLATED, _RATIO = 512 << 20, 16  # bytes, and times the size: weights hardly deflate, pruned ones to an eighth
_HELD = 512 << 20  # bytes of a deflated storage that is held in memory, since its views do not show it from its start to its end
_READ, _TIMES = 4 << 30, 4  # bytes, and times what transposing the whole file takes


class Checked(NamedTuple):
    """`views`: each weight with its place in the file, safe to read; empty where a finding forbids that."""

    views: list[tuple[str, View]]
    findings: list[Finding]


def check(description: Description, entries: Sequence[Entry], size: int, limits: Limits) -> Checked:
    """`entries` as views, checked against a file of `size` bytes; beside them notes on bytes that no tensor shows."""
    findings = list(_storages(description.storages, size, limits))
    views: list[tuple[str, View]] = []
    fitting = [_fitting(tensor, description.storages) for tensor in description.tensors]
    if not findings:
        findings, views = _views(description, entries, fitting)
        findings += _elsewhere(description, entries, fitting)
    if not findings:
        findings = [*_budgets(description, dict(views), size, limits)]
    if any(finding.level is not Level.NOTE for finding in findings):
        return Checked([], findings)
    return Checked(views, [*findings, *_hidden(description, fitting), *_members(description)])


# Storages


def _storages(storages: Sequence[Storage], size: int, limits: Limits) -> Iterator[Finding]:
    for storage in storages:
        if storage.start + storage.stored > size:
            yield find("FM301", f"storage {storage.key}", "lies outside the file", evidence=f"{storage.start} + {storage.stored} > {size}")
            return
        if storage.method == 0 and storage.stored != storage.nbytes:
            yield find("FM301", f"storage {storage.key}", "is not compressed, and yet has two sizes")
            return
    for before, after in pairwise(sorted((s for s in storages if s.stored), key=lambda s: (s.start, s.stored))):
        if before.start + before.stored > after.start:
            yield find("FM109", f"storage {after.key}", f"shares bytes of the file with storage {before.key}")
            return
    inflated = sum(storage.nbytes for storage in storages if storage.method == 8)
    if inflated > (most := min(limits.inflated_bytes, _INFLATED + _RATIO * size)):
        yield find("FM110", "the file", f"its storages inflate to {inflated:,} bytes; at most {most:,} are read of a file of this size")


# Tensors


def _views(
    description: Description, entries: Sequence[Entry], fitting: Sequence[View | None]
) -> tuple[list[Finding], list[tuple[str, View]]]:
    findings: list[Finding] = []
    views: list[tuple[str, View]] = []
    for entry in entries:
        view = _view(description, entry, fitting)
        if isinstance(view, View):
            views.append((entry.name, view))
        elif len(findings) < MAX_FINDINGS:
            findings.append(view)
    return findings, views


def _view(description: Description, entry: Entry, fitting: Sequence[View | None]) -> View | Finding:
    if entry.tensor >= len(description.tensors):
        return find("FM301", entry.name, "is a tensor that the file does not have")
    tensor = description.tensors[entry.tensor]
    if tensor.dtype not in DTYPES:
        return find("FM304", entry.name, f"its dtype {tensor.dtype} is {unsupported(tensor.dtype)}", evidence=tensor.dtype)
    return fitting[entry.tensor] or _outside(tensor, entry.name)


def _outside(tensor: Tensor, name: str) -> Finding:
    where = f"shape {_listed(tensor.shape)}, stride {_listed(tensor.stride)}, offset {tensor.offset}, {tensor.dtype}"
    return find("FM301", name, "reaches outside its storage", evidence=where)


def _elsewhere(description: Description, entries: Sequence[Entry], fitting: Sequence[View | None]) -> list[Finding]:
    """Tensors that are not taken, and reach outside their storage: whoever loads the file makes them, too."""
    broken = {i for i, view in enumerate(fitting) if view is None and description.tensors[i].dtype in DTYPES}
    broken -= {entry.tensor for entry in entries}
    if not broken:
        return []
    names = {entry.tensor: ".".join((*group.path, entry.name)) for group in description.groups for entry in group.entries}
    return [_outside(description.tensors[i], names.get(i, "a tensor beside the weights")) for i in sorted(broken)[:MAX_FINDINGS]]


def _fitting(tensor: Tensor, storages: Sequence[Storage]) -> View | None:
    """The tensor as a view; None where it does not lie in its storage, or no tensor can have its shape."""
    return _within(tensor, storages[tensor.storage].nbytes) if tensor.storage < len(storages) else None


@lru_cache(maxsize=_REMEMBERED)
def _within(tensor: Tensor, nbytes: int) -> View | None:
    """The same in a storage of so many bytes. Files that come in numbers often have one architecture: what a view works out of itself it
    works out once."""
    if tensor.dtype not in DTYPES or len(tensor.shape) != len(tensor.stride):
        return None
    view = View(tensor.storage, DTYPES[tensor.dtype], tensor.shape, tensor.stride, tensor.offset)
    item = view.dtype.itemsize
    if prod(max(n, 1) for n in view.shape) * item >= _MAX_BYTES:
        return None
    return view if view.offset + view.extent <= nbytes // item or not view.numel else None


def _budgets(description: Description, views: dict[str, View], size: int, limits: Limits) -> Iterator[Finding]:
    """What the clean file and the reading may cost. Views beyond the bytes that they come from count as expanded, in all."""
    distinct = dict.fromkeys(views.values())
    shown: dict[int, int] = {}  # bytes, by storage
    for view in distinct:
        shown[view.storage] = shown.get(view.storage, 0) + view.nbytes
    expanded = sum(max(0, nbytes - description.storages[storage].nbytes) for storage, nbytes in shown.items())
    total, reads = sum(shown.values()), sum(map(cost, distinct))
    if len(views) > limits.tensors:
        yield find("FM110", "the file", f"{len(views):,} tensors; at most {limits.tensors:,} are taken")
    if expanded > limits.expanded_bytes:
        message = f"views repeat {expanded:,} bytes more than the file holds; at most {limits.expanded_bytes:,} are written out"
        largest = _largest(views)
        yield find("FM302", largest, message, evidence=_listed(views[largest].shape))
    elif total > limits.clean_bytes:
        yield find("FM110", _largest(views), f"the weights are {total:,} bytes; at most {limits.clean_bytes:,} are taken")
    elif reads > (most := _READ + _TIMES * size * (1 + size // BLOCK)):
        costliest = max(views, key=lambda name: cost(views[name]))
        message = (
            f"views are so strided that reading them is like reading {reads:,} bytes; at most {most:,} are read of a file of this size"
        )
        yield find("FM302", costliest, message, evidence=_listed(views[costliest].stride))
    elif held := _held(description.storages, distinct):
        message = f"inflates to {held.nbytes:,} bytes, which views show in no order; at most {_HELD:,} are held in memory for that"
        yield find("FM110", f"storage {held.key}", message)
    elif repeating := [name for name, view in views.items() if view.overlaps]:
        names = ", ".join(repeating[:_SHOWN])
        yield find("FM302", repeating[0], f"expanded tensors were written out: {names}", level=Level.NOTE, evidence=names)


def _held(storages: Sequence[Storage], views: Iterable[View]) -> Storage | None:
    """The first storage that would have to be held in memory, and is too large."""
    large = {i: storage for i, storage in enumerate(storages) if storage.method == 8 and storage.nbytes > _HELD}
    return next((storage for i, storage in large.items() if not forwards([view for view in views if view.storage == i])), None)


def _largest(views: dict[str, View]) -> str:
    return max(views, key=lambda name: views[name].nbytes)


# What no tensor shows


def _hidden(description: Description, fitting: Iterable[View | None]) -> Iterator[Finding]:
    """Bytes in storages that no tensor of the file shows, chosen or not: at least so many."""
    seen: dict[int, list[View]] = {}
    for view in fitting:
        if view is not None:
            seen.setdefault(view.storage, []).append(view)
    hidden = [(storage.nbytes - _shown_bytes(seen.get(i, ())), storage.key) for i, storage in enumerate(description.storages)]
    slack = sorted(((nbytes, key) for nbytes, key in hidden if nbytes > 0), reverse=True)
    if slack:
        listed = ", ".join(f"{key}: {nbytes:,}" for nbytes, key in slack[:_SHOWN])
        where = f"storage {slack[0][1]}"
        yield find("FM303", where, f"{sum(n for n, _ in slack):,} bytes in {len(slack)} storages that no tensor shows", evidence=listed)


def _shown_bytes(views: Sequence[View]) -> int:
    """Bytes of a storage under the views: the union of their extents, at most what their elements come to."""
    if len(views) == 1:  # nearly always
        return min(views[0].extent * views[0].dtype.itemsize, views[0].nbytes)
    union = reached = elements = 0
    for start, end, nbytes in sorted(map(_span, set(views))):
        union += max(0, end - max(start, reached))
        reached = max(reached, end)
        elements += nbytes
    return min(union, elements)


def _span(view: View) -> tuple[int, int, int]:
    item = view.dtype.itemsize
    return view.offset * item, (view.offset + view.extent) * item, view.nbytes


def _members(description: Description) -> Iterator[Finding]:
    members = description.members
    if members:
        listed = ", ".join(f"{member.name} ({member.nbytes:,} bytes)" for member in members[:_SHOWN])
        total = sum(member.nbytes for member in members)
        yield find("FM112", members[0].name, f"{len(members)} records, {total:,} bytes, that are no part of the model", evidence=listed)


def _listed(dims: Sequence[int]) -> str:
    return f"({', '.join(map(str, dims))})"
