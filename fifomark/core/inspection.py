"""What the sanitizer says of one file."""

from __future__ import annotations

from typing import Literal

from fifomark.core.findings import Finding, Verdict
from fifomark.core.record import Record
from fifomark.core.weights import FamilySeen, WeightsSummary

Form = Literal["state_dict", "checkpoint", "module", "torchscript"]


class CleanFile(Record):
    """What was written: its size in bytes, the hash of the file, and the hash of the weights alone."""

    size: int
    sha256: str
    weights_sha256: str


class Inspection(Record):
    """One file, read without running it. `sha256` and `size` are the file's as it came; None where it could not be read.

    `would_run` shows, in the words of Python, what loading the file with pickle would have called. `clean` is None where nothing was
    written.
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
