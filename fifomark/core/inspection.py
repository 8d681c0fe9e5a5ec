"""What the sanitizer says of one file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from fifomark.core.findings import Finding, Verdict, verdict_of
from fifomark.core.layers import Layer
from fifomark.core.record import Record
from fifomark.core.text import shown
from fifomark.core.weights import FamilySeen, WeightsSummary

Form = Literal["state_dict", "checkpoint", "module", "torchscript"]


MAX_PATH = 4096


class CleanFile(Record):
    """What was written: its size in bytes and its hash. The same weights, saved the same way, give the same clean file."""

    size: int
    sha256: str


class Inspection(Record):
    """One file, read without running it. `sha256` and `size` are the file's as it came; None where it could not be read.
    A file of more than 1 GiB that no weights can be taken from is not hashed either.

    `would_run` shows, in the words of Python, what loading the file with pickle would have called. `clean` is None where nothing was
    written. `layers` is the tree of a pickled module whose layers are all torch's own; of another the first few that are not, without
    their attributes.
    """

    path: str
    verdict: Verdict
    container: str | None
    form: Form | None
    family: FamilySeen | None
    findings: tuple[Finding, ...]
    weights: WeightsSummary | None
    would_run: tuple[str, ...]
    size: int | None
    sha256: str | None
    clean: CleanFile | None = None
    layers: tuple[Layer, ...] = ()


def conclude(path: str, findings: Sequence[Finding], **seen: Any) -> Inspection:
    """An inspection with these findings, the worst first, and the verdict that they add up to; `seen` are its other fields, None or empty
    where they are left out."""
    ordered = tuple(sorted(findings, key=lambda finding: (-finding.level.rank, finding.code)))
    nothing = dict.fromkeys(("container", "form", "family", "weights", "size", "sha256"))
    facts: dict[str, Any] = {**nothing, "would_run": (), **seen}
    return Inspection(path=shown(path, MAX_PATH), verdict=verdict_of(ordered), findings=ordered, **facts)
