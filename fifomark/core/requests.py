"""What the command line asks of the daemon that holds a spool, and what it is answered."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from fifomark.core.keeping import Pruned
from fifomark.core.record import Record

Verb = Literal["hold", "release", "withdraw", "retry", "prune", "pause", "resume"]
MAX_IDS = 100_000


class Request(Record):
    """`ids` are empty for `pause` and `resume`, which are about the whole spool; `stage` is what `prune` takes away."""

    verb: Verb
    ids: Annotated[tuple[int, ...], Meta(max_length=MAX_IDS)] = ()
    stage: Pruned = Pruned.NOTHING


class Done(Record):
    """What became of one id, or of the spool (`id` None): `message` says what was done, or why not."""

    id: int | None
    done: bool
    message: str


class Answer(Record):
    results: tuple[Done, ...]
