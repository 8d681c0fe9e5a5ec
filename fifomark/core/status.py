"""What `fifomark status --json` prints: `fifomark.status/1`."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from fifomark.core.record import Record

SCHEMA: Literal["fifomark.status/1"] = "fifomark.status/1"


class DaemonStatus(Record):
    """The daemon that holds the spool. `mode` is "serve" or "drain"."""

    pid: int
    host: str
    mode: str
    started_at: datetime
    version: str


class SlotStatus(Record):
    """`state` is "free", "starting", "busy", "draining" or "out of service" (`why`); `submission` the id on it."""

    name: str
    state: str
    submission: int | None
    why: str | None = None


class Line(Record):
    """One submission in `queue` or `recent`."""

    id: int
    name: str
    owner: str
    rubric: str
    state: str
    attempt: int
    verdict: str | None
    family: str | None
    points: float | None
    points_possible: float | None
    reason: str | None
    message: str | None
    updated_at: datetime


class Status(Record):
    """`daemon` is None where none runs; `states` has a count for every state; `uploads` are names that are left alone: hidden
    ones, and those of uploads that go on.

    `paused` says why nothing new is started, if so; `notices` is what the daemon wants its operator to know."""

    schema: Literal["fifomark.status/1"]
    spool: str
    daemon: DaemonStatus | None
    states: dict[str, int]
    slots: tuple[SlotStatus, ...]
    queue: tuple[Line, ...]
    recent: tuple[Line, ...]
    uploads: tuple[str, ...]
    paused: str | None = None
    notices: tuple[str, ...] = ()
