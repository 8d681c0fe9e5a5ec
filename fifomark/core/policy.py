"""What the operator lets through, and how much a submission may cost. Limits are data with names."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from msgspec import Meta

from fifomark.core.record import Record

Positive = Annotated[int, Meta(gt=0, le=1 << 50)]
Seconds = Annotated[float, Meta(gt=0, le=1e8)]


class Isolation(StrEnum):
    """What shares a process that reads: nothing, or up to 120 small submissions."""

    SUBMISSION = "submission"
    BATCH = "batch"


class Limits(Record):
    """Sizes in bytes, times in seconds. `parse_*` bind the child that reads one file, `mark_*` the worker that marks one model."""

    file_bytes: Positive = 8 << 30
    pickle_bytes: Positive = 64 << 20
    inflated_bytes: Positive = 2 << 30
    description_bytes: Positive = 64 << 20
    clean_bytes: Positive = 8 << 30
    expanded_bytes: Positive = 256 << 20
    tensors: Positive = 50_000
    parse_seconds: Seconds = 8.0
    parse_memory_bytes: Positive = 1 << 30
    sanitize_seconds: Seconds = 600.0
    mark_seconds: Seconds = 300.0
    mark_cpu_seconds: Seconds | None = None
    mark_memory_bytes: Positive = 8 << 30


class Policy(Record):
    """`allow` adds exact full names ("my.Config") to the plain data that is dropped without a refusal; nothing is ever imported.

    `torchscript`: a rubric lets the code of such an archive run in a sandbox, so that having some is no reason to refuse it.
    """

    extensions: Annotated[tuple[str, ...], Meta(min_length=1)] = (".pt",)
    on_unsafe: Literal["reject", "disarm"] = "reject"
    allow: tuple[str, ...] = ()
    torchscript: bool = False
