"""What the daemon tells its workers."""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from fifomark.core.inspection import Form
from fifomark.core.layers import Layer
from fifomark.core.outcome import MarkTicket, Original, SanitizeTicket
from fifomark.core.submission import Submission
from fifomark.core.text import shown
from fifomark.families.registry import FAMILIES
from fifomark.marking.rubric import Rubric
from fifomark.sandbox.enter import Strictness
from fifomark.spool.spool import Spool
from fifomark.workers.pool import Bounds


class _Told(msgspec.Struct):
    """The part of an inspection that marking needs; the rest of it, a summary of every tensor, is skipped unread."""

    form: Form | None = None
    sha256: str | None = None
    layers: tuple[Layer, ...] = ()


def sanitize_ticket(spool: Spool, submission: Submission, rubric: Rubric | None) -> SanitizeTicket:
    """`rubric` is that of the submission, None where the spool has none of its name."""
    return SanitizeTicket(
        submission=submission.id,
        path=spool.layout.claimed(submission),
        name=shown(submission.name, 1100),
        clean_path=spool.layout.unpublished(submission),
        policy=replace(spool.settings.policy, torchscript=rubric is not None and rubric.model.torchscript),
        limits=spool.settings.limits,
        families=_plugins(spool, rubric),
    )


def mark_ticket(spool: Spool, submission: Submission, rubric: Rubric, sha256: str, inspection: bytes | None, limit: Bounds) -> MarkTicket:
    """`sha256` is the hash that the rubric was read with, `inspection` what the ledger keeps of the submission's, `limit` what marking may
    cost."""
    told = msgspec.json.decode(inspection, type=_Told) if inspection else _Told()
    return MarkTicket(
        submission=submission.id,
        path=spool.layout.clean(submission),
        rubric=spool.layout.rubric(submission.rubric),
        rubric_sha256=sha256,
        form=told.form,
        layers=told.layers if rubric.model.trees else (),
        families=_plugins(spool, rubric),
        original=original(rubric, told.form, told.sha256, spool.layout.original(submission), limit, spool.settings.sandbox),
    )


def original(
    rubric: Rubric, form: Form | None, sha256: str | None, path: str, limit: Bounds, sandbox: Strictness = "auto"
) -> Original | None:
    """The submission itself, at `path`, where it is TorchScript that the rubric lets run; `limit` is that of marking it."""
    if not rubric.model.torchscript or form != "torchscript":
        return None
    return Original(path=path, sha256=sha256, sandbox=sandbox, seconds=limit.seconds, memory_bytes=limit.memory_bytes)


def _plugins(spool: Spool, rubric: Rubric | None) -> tuple[str, ...]:
    """The families that the settings or the rubric name, and that are none of ours."""
    named = (*spool.settings.plugins, *(rubric.model.families if rubric else ()))
    return tuple(name for name in dict.fromkeys(named) if name not in FAMILIES)
