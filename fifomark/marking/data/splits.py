"""Which examples are public, and which private: the same ones with every version of every library."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from fifomark.marking.data.source import Array, BadData, Found, nearest
from fifomark.marking.schema import DataFile
from fifomark.marking.terms import SplitName

_PARTS = 1_000_000  # of a share: whole numbers count alike everywhere
Parts = list[tuple[SplitName, NDArray[np.bool_] | None]]  # None: every example


def parts(marks: Found | None, labels: Array, data: DataFile) -> Parts:
    """All of the examples; or "public" and "private" ones, by `marks` where each says what it is, or by the share that is public."""
    if marks is None and data.public is None:
        return [("all", None)]
    if marks is not None:
        public, key = _marked(marks, len(labels)), "data.split"
    else:
        assert data.public is not None
        public, key = drawn(labels, data.public, data.seed), "data.public"
    if public.all() or not public.any():
        none = "private" if public.all() else "public"
        raise BadData(key, f"leaves none of {len(labels)} examples {none}", "both kinds are needed, or leave it out")
    return [("public", public), ("private", ~public)]


def drawn(labels: Array, share: float, seed: int) -> NDArray[np.bool_]:
    """Which examples are public: `share` of them, and of each class, where `labels` are whole numbers (n,).

    In the order of classes, and within one of sha256("SEED:ROW"), every one is public that brings the share over the next whole number.
    """
    keys = [hashlib.sha256(f"{seed}:{row}".encode()).digest()[:8] for row in range(len(labels))]
    drawn_by = np.frombuffer(b"".join(keys), ">u8").astype(np.uint64)
    classes = labels if labels.ndim == 1 and labels.dtype.kind in "iu" else np.zeros(len(labels), np.int64)
    counted = np.arange(len(labels) + 1) * round(share * _PARTS) // _PARTS
    public = np.zeros(len(labels), bool)
    public[np.lexsort((drawn_by, classes))] = np.diff(counted) > 0
    return public


def _marked(marks: Found, examples: int) -> NDArray[np.bool_]:
    values = marks.values
    if isinstance(values, list) or values.shape != (examples,):
        raise BadData("data.split", f"{marks.title} has not one value for each of {examples} examples")
    public = (values == "public") if values.dtype.kind == "U" else (values == 1)
    known = public | ((values == "private") if values.dtype.kind == "U" else (values == 0))
    if not known.all():
        row = int(np.argmin(known))
        found = values[row].item()
        hint = nearest(found, ("public", "private")) if isinstance(found, str) else "1 is public, 0 private"
        raise BadData("data.split", f"{marks.spot((row,))} is {found!r}, expected public or private", hint)
    return np.asarray(public, np.bool_)
