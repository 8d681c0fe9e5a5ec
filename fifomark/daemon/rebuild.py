"""A new ledger, made from the folders, where the old one is lost or broken."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import datetime

import msgspec
from msgspec.structs import replace

from fifomark.core.keeping import Pruned
from fifomark.core.report import Report, decode
from fifomark.core.states import State
from fifomark.core.submission import Identity, Submission
from fifomark.core.text import shown
from fifomark.daemon.fsck import NUMBERED, needed
from fifomark.daemon.repair import set_aside
from fifomark.daemon.rubrics import Rubrics, load_rubrics
from fifomark.ledger.ledger import Ledger
from fifomark.spool.intake import arrival_of
from fifomark.spool.layout import Layout
from fifomark.spool.moves import rename
from fifomark.spool.spool import Spool

_UNKNOWN_RUBRIC = "its rubric was lost with the ledger: release it to mark it against {default}, or move it to incoming/RUBRIC/"


def rebuild(spool: Spool, now: float) -> Iterator[str]:
    """Set the old ledger aside and make a new one, telling of each submission that it finds.

    What has ended is taken from its report. What was in hand waits in incoming/ again, under its id; where the spool has several rubrics
    it is held, since only the ledger knew its own.
    """
    rubrics = load_rubrics(spool)
    for ending in ("", "-wal", "-shm"):
        if os.path.lexists(f"{spool.layout.ledger}{ending}"):
            yield f"the old ledger: moved to {set_aside(spool, os.path.basename(spool.layout.ledger) + ending)}"
    with Ledger(spool.layout.ledger) as ledger, ledger.batch():
        for folder in ("done", "rejected", "failed"):
            yield from _ended(spool, ledger, folder, now)
        yield from _in_hand(spool, ledger, rubrics, now)
    spool.sync()


def _ended(spool: Spool, ledger: Ledger, folder: str, now: float) -> Iterator[str]:
    for name in sorted(os.listdir(spool.layout.folder(folder))):
        if not (name.endswith(".json") and NUMBERED.match(name)):
            continue
        try:
            with open(os.path.join(spool.layout.folder(folder), name), "rb") as file:
                report = decode(file.read())
        except (OSError, msgspec.DecodeError) as e:
            yield f"{folder}/{shown(name)}: cannot be read, and is left: {e}"
            continue
        if ledger.find(report.id):
            yield f"{folder}/{shown(name)}: {report.id} has ended elsewhere, too; left"
            continue
        row = _row(report, _name(spool.layout, report, name), now)
        if not all(any(map(os.path.lexists, places)) for places in needed(spool.layout, row)):
            row = replace(row, pruned=Pruned.FILES)  # only the report is kept
        ledger.upkeep.restore(row, [(step.state, step.at.timestamp()) for step in report.timeline])
        yield f"{report.id:08d} {report.submission.name}: {report.state}"


def _name(layout: Layout, report: Report, on_disk: str) -> str:
    """What a submission is called: as its report says, unless that made unprintable bytes readable; then as its files are called."""
    said = report.submission.name
    if os.path.basename(layout.report(_row(report, said, 0.0))) == on_disk:
        return said
    numbered = NUMBERED.match(os.path.splitext(on_disk)[0])
    assert numbered is not None
    return numbered["name"] + os.path.splitext(said)[1]


def _row(report: Report, name: str, now: float) -> Submission:
    facts, grade = report.submission, report.grade
    ended = report.timeline[-1].at.timestamp() if report.timeline else now
    return Submission(
        id=report.id,
        folder="",
        name=name,
        kind="file",
        rubric=facts.rubric or "",
        owner=facts.owner,
        state=report.state,
        moving=False,
        attempt=facts.attempt,
        tries=0,
        order_ns=_nanoseconds(facts.mtime),
        identity=Identity(device=0, inode=0, size=facts.size or 0, mtime_ns=_nanoseconds(facts.mtime)),
        received_at=facts.received_at.timestamp(),
        slot=report.environment.slot,
        verdict=report.verdict,
        family=report.model.family if report.model else None,
        points=grade.points if grade else None,
        points_possible=grade.points_possible if grade else None,
        reason=report.reason.code,
        message=report.reason.message,
        updated_at=ended,
    )


def _in_hand(spool: Spool, ledger: Ledger, rubrics: Rubrics, now: float) -> Iterator[str]:
    """What was being sanitized, waited for a slot or was on one: its original goes back, what was made of it goes aside."""
    for folder, ending in (("sanitizing", ""), ("originals", ".original")):
        for name in sorted(os.listdir(spool.layout.folder(folder))):
            numbered = NUMBERED.match(name)
            if numbered and name.endswith(ending) and not ledger.find(int(numbered["id"])):
                path = os.path.join(spool.layout.folder(folder), name)
                yield _back(spool, ledger, rubrics, path, int(numbered["id"]), numbered["name"].removesuffix(ending), now)
    for name in sorted(os.listdir(spool.layout.folder("evaluating"))):
        yield f"evaluating/{shown(name)}: moved to {set_aside(spool, os.path.join('evaluating', name))}"


def _back(spool: Spool, ledger: Ledger, rubrics: Rubrics, path: str, id: int, name: str, now: float) -> str:
    default = spool.settings.default_rubric
    name = _free(spool.layout, name, id)
    target = os.path.join(spool.layout.folder("incoming"), name)
    rename(path, target)
    arrival = arrival_of(("", name), os.lstat(target))
    held = len(rubrics) > 1
    waiting = Submission(
        id=id,
        folder="",
        name=name,
        kind=arrival.kind,
        rubric=default,
        owner=shown(rubrics[default][0].owner_of(name)),
        state=State.HELD if held else State.QUEUED,
        moving=False,
        attempt=1,
        tries=0,
        order_ns=min(arrival.identity.mtime_ns, int(now * 1e9)),
        identity=arrival.identity,
        received_at=now,
        updated_at=now,
    )
    ledger.upkeep.restore(waiting, [(State.QUEUED, now)])
    if held:
        ledger.steering.keep_held(id, _UNKNOWN_RUBRIC.format(default=default))
    return f"{id:08d} {shown(name)}: {'held' if held else 'waits again'}"


def _free(layout: Layout, name: str, id: int) -> str:
    """`name`, or one with the id in it where another file waits under that name."""
    if not os.path.lexists(os.path.join(layout.folder("incoming"), name)):
        return name
    base, extension = os.path.splitext(name)
    return f"{base}.{id:08d}{extension}"


def _nanoseconds(at: datetime) -> int:
    return int(at.timestamp() * 1e6) * 1000
