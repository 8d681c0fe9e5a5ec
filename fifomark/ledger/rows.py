"""How a submission stands in the ledger's table."""

from __future__ import annotations

import os
from typing import Any

from fifomark.core.findings import Verdict
from fifomark.core.keeping import Pruned
from fifomark.core.states import State
from fifomark.core.submission import Identity, Submission

COLUMNS = (
    "id, folder, name, kind, rubric, owner, state, moving, attempt, tries, order_ns, device, inode, size, mtime_ns, received_at, "
    "slot, verdict, family, points, points_possible, reason, message, updated_at, pruned"
)
_STATES = {state.value: state for state in State}
_VERDICTS: dict[str | None, Verdict | None] = {None: None, **{verdict.value: verdict for verdict in Verdict}}
_PRUNED = {pruned.value: pruned for pruned in Pruned}


def submission_of(row: tuple[Any, ...]) -> Submission:
    """Of a row of COLUMNS, field by field: a turn reads hundreds."""
    (id, folder, name, kind, rubric, owner, state, moving, attempt, tries, order_ns, device, inode, size, mtime_ns, received_at) = row[:16]
    (slot, verdict, family, points, points_possible, reason, message, updated_at, pruned) = row[16:]
    return Submission(
        id=id,
        folder=folder,
        name=os.fsdecode(name),
        kind=kind,
        rubric=rubric,
        owner=owner,
        state=_STATES[state],
        moving=bool(moving),
        attempt=attempt,
        tries=tries,
        order_ns=order_ns,
        identity=Identity(device=device, inode=inode, size=size, mtime_ns=mtime_ns),
        received_at=received_at,
        slot=slot,
        verdict=_VERDICTS[verdict],
        family=family,
        points=points,
        points_possible=points_possible,
        reason=reason,
        message=message,
        updated_at=updated_at,
        pruned=_PRUNED[pruned],
    )
