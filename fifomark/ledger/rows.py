"""How a submission stands in the ledger's table."""

from __future__ import annotations

import os

from fifomark.core.findings import Verdict
from fifomark.core.keeping import Pruned
from fifomark.core.states import State
from fifomark.core.submission import Identity, Submission

COLUMNS = (
    "id, folder, name, kind, rubric, owner, state, moving, attempt, tries, order_ns, device, inode, size, mtime_ns, received_at, "
    "slot, verdict, family, points, points_possible, reason, message, updated_at, pruned"
)


_NAMES = tuple(COLUMNS.split(", "))


def submission_of(row: tuple[object, ...]) -> Submission:
    fields: dict[str, object] = dict(zip(_NAMES, row, strict=True))
    identity = {key: fields.pop(key) for key in ("device", "inode", "size", "mtime_ns")}
    verdict, pruned = fields.pop("verdict"), fields.pop("pruned")
    return Submission(
        **fields | {"name": os.fsdecode(fields["name"]), "state": State(fields["state"]), "moving": bool(fields["moving"])},  # type: ignore[arg-type]
        identity=Identity(**identity),  # type: ignore[arg-type]
        pruned=Pruned(pruned),  # type: ignore[arg-type]
        verdict=None if verdict is None else Verdict(str(verdict)),
    )
