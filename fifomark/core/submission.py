"""A file that someone dropped: as it was seen, and as the ledger keeps it."""

from __future__ import annotations

from typing import Literal, NamedTuple

from fifomark.core.findings import Verdict
from fifomark.core.keeping import Pruned
from fifomark.core.record import Record
from fifomark.core.states import State

Kind = Literal["file", "link", "folder", "pipe", "socket", "device", "hard link"]


class Identity(Record):
    """What tells one file from another under the same name. Size in bytes, times in nanoseconds since the epoch."""

    device: int
    inode: int
    size: int
    mtime_ns: int


class Arrival(Record):
    """A settled name in incoming/. `folder` is the subfolder it lies in ("" for none), which chooses the rubric.

    `name` may hold any bytes (undecodable ones as surrogates, as Python's os functions give and take them).
    """

    folder: str
    name: str
    kind: Kind
    identity: Identity


Key = tuple[str, str]  # where something lies in incoming/: (folder, name)


class Look(NamedTuple):
    """What to look at in incoming/: `keys`; `again` at whatever was not settled; and of everything so much as takes `seconds`."""

    keys: frozenset[Key] = frozenset()
    again: bool = False
    seconds: float = 0.0


EVERYTHING = Look(seconds=float("inf"))


class Listing(Record):
    """What a look at incoming/ has found: what has settled since the last look, what is not settled yet, what is gone."""

    arrivals: tuple[Arrival, ...] = ()
    unsettled: frozenset[Key] = frozenset()
    gone: frozenset[Key] = frozenset()


class Submission(Record):
    """A row of the ledger. `order_ns` decides who is next, then the name, then the id; times are seconds since the epoch.

    `moving` is true from the commit of a state until its file lies where that state says: what recovery has to finish.
    `tries` counts how often work on it began; `attempt` how often its submitter asked. `pruned` is what is no longer kept.
    """

    id: int
    folder: str
    name: str
    kind: Kind
    rubric: str
    owner: str
    state: State
    moving: bool
    attempt: int
    tries: int
    order_ns: int
    identity: Identity
    received_at: float
    slot: str | None = None
    verdict: Verdict | None = None
    family: str | None = None
    points: float | None = None
    points_possible: float | None = None
    reason: str | None = None
    message: str | None = None
    updated_at: float = 0.0
    pruned: Pruned = Pruned.NOTHING


class Claim(Record):
    """A submission that has just become ours: its intent is committed, its file about to move."""

    submission: Submission
