"""What must hold of a spool at any instant, whatever stopped its daemon, and what must hold once nothing waits.

It shares no code with the daemon but the definitions of a report and of the tables: it reads the folders and the tables itself.

At any instant the bytes that were dropped lie in exactly one place, their clean file in at most one, and both where the submission's row
lets them be. A final state is reached once, its report is whole and was there before its file.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sqlite3
import tempfile
from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from fifomark.core.report import Report, decode
from fifomark.ledger.schema import migrate
from torturing.spools import Dropped

FINAL = ("done", "rejected", "failed", "withdrawn")
FOLDERS = ("incoming", "sanitizing", "evaluating", "done", "rejected", "failed", "originals")
_TEMPORARY = re.compile(r"\..+\.tmp$")

# From which state to which. Nothing leaves a final state, but for what is tried again.
_STEPS = {
    "": {"queued"},
    "queued": {"sanitizing", "held", "rejected", "failed"},  # the last two: a retry that was taken back
    "held": {"queued"},
    "sanitizing": {"sanitized", "rejected", "failed", "held"},
    "sanitized": {"evaluating", "failed"},
    "evaluating": {"sanitized", "done", "rejected", "failed"},
    "rejected": {"queued"},
    "failed": {"queued"},
}


class Cell(NamedTuple):
    """Where the files of a submission may be: what was dropped, its clean file, its report. "-" stands for nowhere."""

    original: set[str]
    clean: set[str]
    report: set[str]


# By (state, moving). A clean file is "hidden" while nobody may rely on it.
_CELLS = {
    ("queued", 0): Cell({"incoming"}, {"-"}, {"-"}),
    ("queued", 1): Cell({"rejected", "failed", "originals", "incoming"}, {"-", "failed"}, {"-", "rejected", "failed"}),  # a retry
    ("held", 0): Cell({"incoming"}, {"-"}, {"-"}),
    ("sanitizing", 1): Cell({"incoming", "sanitizing"}, {"-"}, {"-"}),
    ("sanitizing", 0): Cell({"sanitizing"}, {"-", "hidden"}, {"-"}),
    ("sanitized", 1): Cell({"sanitizing", "originals"}, {"hidden", "evaluating"}, {"-"}),
    ("sanitized", 0): Cell({"originals"}, {"evaluating"}, {"-"}),
    ("evaluating", 0): Cell({"originals"}, {"evaluating"}, {"-"}),
    ("done", 1): Cell({"originals"}, {"evaluating", "done"}, {"-", "done"}),
    ("done", 0): Cell({"originals"}, {"done"}, {"done"}),
    ("rejected", 1): Cell({"sanitizing", "originals", "rejected"}, {"-", "hidden", "evaluating"}, {"-", "rejected"}),
    ("rejected", 0): Cell({"rejected"}, {"-"}, {"rejected"}),
    ("failed", 1): Cell({"sanitizing", "originals", "failed"}, {"-", "hidden", "evaluating", "failed"}, {"-", "failed"}),
    ("failed", 0): Cell({"originals", "failed"}, {"-", "failed"}, {"failed"}),
}


class Row(NamedTuple):
    id: int
    name: str
    state: str
    moving: int
    attempt: int
    reason: str | None
    order: tuple[int, bytes, int]


class Event(NamedTuple):
    submission: int
    at: float
    state: str
    note: str | None = None  # the slot, where it is evaluating


class Spool(NamedTuple):
    """A spool as it was found: rows by name, events by id and in their order, and every file by folder and name."""

    root: Path
    rows: dict[str, list[Row]]
    events: list[Event]
    files: set[tuple[str, str]]

    def history(self) -> dict[int, list[Event]]:
        found: dict[int, list[Event]] = {}
        for event in self.events:
            found.setdefault(event.submission, []).append(event)
        return found


def check(root: Path, dropped: Iterable[Dropped], *, at_rest: bool, known: set[str] | None = None) -> list[str]:
    """What does not hold; nothing where all does. No daemon may be running. `at_rest`: everything has come to its end.

    `known` has the names whose bytes were read before and need not be again; those of what is final are added to it.
    """
    dropped = list(dropped)
    spool = _read(root)
    wrong = [f"{name}: is in the ledger, and was never dropped" for name in spool.rows.keys() - {one.name for one in dropped}]
    history = spool.history()
    explained: set[tuple[str, str]] = set()
    known = set() if known is None else known
    for one in dropped:
        rows = spool.rows.get(one.name, [])
        if len(rows) > 1:
            wrong.append(f"{one.name}: has {len(rows)} rows in the ledger")
            continue
        row = rows[0] if rows else None
        wrong += [f"{one.name}: {what}" for what in _one(spool, one, row, history, explained, known, at_rest)]
    for folder, name in sorted(spool.files - explained):
        if at_rest or not (_TEMPORARY.match(name) or (folder == "incoming" and name.endswith(".part"))):
            wrong.append(f"{folder}/{name}: belongs to nothing")
    return wrong + list(overtaken(spool))


def _one(
    spool: Spool,
    one: Dropped,
    row: Row | None,
    history: Mapping[int, list[Event]],
    explained: set[tuple[str, str]],
    known: set[str],
    at_rest: bool,
) -> Iterator[str]:
    """What does not hold of one submission; the files that are its own are added to `explained`."""
    places = {kind: {place: file for place, file in _places(one.name, row, kind) if file in spool.files} for kind in Cell._fields}
    for found in places.values():
        explained |= set(found.values())
    where = {kind: sorted(found) or ["-"] for kind, found in places.items()}
    cell = _CELLS.get((row.state, row.moving)) if row else Cell({"incoming"}, {"-"}, {"-"})
    if cell is None:
        yield f"is {row and row.state} with moving = {row and row.moving}"
        return
    for kind, allowed in zip(Cell._fields, cell, strict=True):
        if len(where[kind]) != 1 or where[kind][0] not in allowed:
            yield f"{row.state if row else 'unknown'}/{row.moving if row else 0}: its {kind} is in {where[kind]}, not in {sorted(allowed)}"
    if row and row.state in ("done", "rejected", "failed"):
        # Published last: where the file of a final state lies, there its report lies already.
        last = "clean" if row.state == "done" else "original"
        if row.state in where[last] and row.state not in where["report"]:
            yield "lies in its final folder without a report"
        if row.state == "failed" and (where["clean"] == ["-"]) != (where["original"] != ["originals"]) and not row.moving:
            yield f"failed with its original in {where['original']} and its clean file in {where['clean']}"
    if one.name not in known:
        for place, file in places["original"].items():
            if (body := spool.root.joinpath(*file).read_bytes()) and hashlib.sha256(body).hexdigest() != one.sha256:
                yield f"what was dropped was changed ({place}, {len(body)} bytes)"
    if row:
        for attempt in range(1, row.attempt):
            earlier = ("originals", f"{row.id:08d}-{os.path.splitext(one.name)[0]}.attempt-{attempt}.json")
            explained.add(earlier)
            if earlier not in spool.files and not row.moving:
                yield f"the report of attempt {attempt} is gone"
        yield from _told(spool, one, row, history.get(row.id, []), places, known)
    if at_rest and (row is None or row.moving or (row.state, row.reason) != one.ending):
        yield f"ends as {(row.state, row.reason, row.moving) if row else 'nothing'}, not as {one.ending}"


def _places(name: str, row: Row | None, kind: str) -> Iterator[tuple[str, tuple[str, str]]]:
    """Every place in which a file of this kind could be: what it is called here, and (folder, name)."""
    if kind == "original":
        yield "incoming", ("incoming", name)
    if row is None:
        return
    numbered, stem = f"{row.id:08d}-{name}", f"{row.id:08d}-{os.path.splitext(name)[0]}"
    match kind:
        case "original":
            yield "sanitizing", ("sanitizing", numbered)
            yield "originals", ("originals", f"{numbered}.original")
            yield "rejected", ("rejected", f"{numbered}.quarantined")
            yield "failed", ("failed", f"{numbered}.original")
        case "clean":
            yield "hidden", ("evaluating", f".{stem}.pt")
            yield from ((folder, (folder, f"{stem}.pt")) for folder in ("evaluating", "done", "failed"))
        case _:
            yield from ((folder, (folder, f"{stem}.json")) for folder in ("done", "rejected", "failed"))


def _told(
    spool: Spool, one: Dropped, row: Row, events: list[Event], places: Mapping[str, Mapping[str, tuple[str, str]]], known: set[str]
) -> Iterator[str]:
    """The history and, where there is one, the report."""
    states = [event.state for event in events]
    for before, after in zip(["", *states], states, strict=False):
        if after not in _STEPS.get(before, ()):
            yield f"went from {before or 'nowhere'} to {after}: {states}"
    again = sum(state in FINAL for state in _kept(states)[:-1])
    if again != row.attempt - 1:
        yield f"had {again} attempts before this, and its row says that it is number {row.attempt}: {states}"
    if not states or states[-1] != row.state:
        yield f"its row says {row.state}, its history {states}"
    if one.name in known or row.state == "queued":
        return  # with a report it is the last attempt's
    for file in places["report"].values():
        yield from _report(spool, one, row, states, file, places["clean"])
    if row.state in FINAL and not row.moving:
        known.add(one.name)


def _kept(states: list[str]) -> list[str]:
    """Without retries that were taken back."""
    taken_back = {
        i for i in range(1, len(states)) if states[i - 1] == "queued" and states[i] in FINAL and i > 1 and states[i - 2] == states[i]
    }
    return [state for i, state in enumerate(states) if i not in taken_back and i + 1 not in taken_back]


def _report(
    spool: Spool, one: Dropped, row: Row, states: list[str], file: tuple[str, str], cleans: Mapping[str, tuple[str, str]]
) -> Iterator[str]:
    try:
        report: Report = decode(spool.root.joinpath(*file).read_bytes())
    except ValueError as e:
        yield f"its report is none: {e}"
        return
    told = (report.id, report.state.value, report.reason.code, report.submission.name, report.submission.size)
    if told != (row.id, row.state, row.reason, one.name, one.size):
        yield f"its report says {told}, the ledger {(row.id, row.state, row.reason, one.name, one.size)}"
    if report.submission.sha256 not in (one.sha256, None) or (report.submission.sha256 is None and row.state == "done"):
        yield f"its report has another file's sha256: {report.submission.sha256}"
    if [step.state.value for step in report.timeline] != _kept(states):
        yield f"its report's timeline is {[step.state.value for step in report.timeline]}, its history {states}"
    if (row.state == "done") != (report.grade is not None):
        yield f"is {row.state}, and its report has the grade {report.grade}"
    for clean in cleans.values():
        body = spool.root.joinpath(*clean).read_bytes()
        if report.clean is not None and (report.clean.size, report.clean.sha256) != (len(body), hashlib.sha256(body).hexdigest()):
            yield f"its clean file {'/'.join(clean)} ({len(body)} bytes) is not the one of its report"


def overtaken(spool: Spool) -> Iterator[str]:
    """Whoever was taken while an earlier one was ready: for reading, and for marking."""
    # A retry has left its first place in the line.
    once = {id for id, events in spool.history().items() if sum(event.state == "queued" for event in events) == 1}
    order = {row.id: row.order for rows in spool.rows.values() for row in rows if row.id in once}
    waiting: list[tuple[int, bytes, int]] = []
    sanitized: dict[int, float] = {}
    slots: dict[int, str | None] = {}  # where each was tried last
    known = {event.note for event in spool.events if event.state == "evaluating"}
    lost: dict[int, set[str | None]] = {}  # slots that each was lost on: it may have to wait for another (docs/slots.md)
    for event in (event for event in spool.events if event.submission in order):
        mine = order[event.submission]
        if mine in waiting[(at := bisect_left(waiting, mine)) : at + 1]:
            del waiting[at]
            if event.state == "sanitizing" and at > 0:
                yield f"{event.submission}: was taken before {waiting[0][1].decode()}, which was earlier"
        if event.state == "queued":
            insort(waiting, mine)
        since = sanitized.pop(event.submission, None)
        if event.state == "sanitized":
            sanitized[event.submission] = event.at
            if (event.note or "").startswith("the worker was lost"):
                lost.setdefault(event.submission, set()).add(slots.get(event.submission))
        if event.state == "evaluating":
            slots[event.submission] = event.note
        # What was made ready in the same turn has not been in place yet when the slots were filled.
        if event.state == "evaluating" and since is not None:
            for id, ready in sanitized.items():
                if ready < event.at and order[id] < mine and (event.note not in lost.get(id, ()) or lost[id] == known):
                    yield f"{event.submission}: was marked before {order[id][1].decode()}, which was earlier"


def _read(root: Path) -> Spool:
    files = {(folder, entry.name) for folder in FOLDERS for entry in os.scandir(root / folder)}
    rows: dict[str, list[Row]] = {}
    with _tables(root) as db:
        found = db.execute("SELECT id, name, state, moving, attempt, reason, order_ns FROM submissions ORDER BY id")
        for id, name, state, moving, attempt, reason, order in found:
            rows.setdefault(os.fsdecode(name), []).append(Row(id, os.fsdecode(name), state, moving, attempt, reason, (order, name, id)))
        events = [Event(*event) for event in db.execute("SELECT submission, at, state, note FROM events ORDER BY rowid")]
    return Spool(root, rows, events, files)


@contextmanager
def _tables(root: Path) -> Iterator[sqlite3.Connection]:
    """A copy of the ledger: opening it would finish what a daemon left half done, and that is for the next daemon to do."""
    with tempfile.TemporaryDirectory() as folder:
        for path in (root / "ledger.sqlite3", root / "ledger.sqlite3-wal"):
            if path.exists():
                shutil.copy(path, folder)
        with closing(sqlite3.connect(Path(folder, "ledger.sqlite3"))) as db:
            (sound,) = db.execute("PRAGMA integrity_check").fetchone()
            assert sound == "ok", sound
            if db.execute("PRAGMA user_version").fetchone()[0] == 0:
                migrate(db)  # it has no tables yet: as good as empty
            yield db


def check_deeply(root: Path) -> list[str]:
    """Of a spool at rest: every report keeps the published schema, every clean file is loaded by torch without running anything."""
    import jsonschema
    import torch

    schema = json.loads((Path(__file__).parents[2] / "docs/report.schema.json").read_text())
    validator = jsonschema.Draft202012Validator(schema)
    wrong = []
    for folder in ("done", "rejected", "failed"):
        for path in sorted((root / folder).glob("*.json")):
            wrong += [f"{folder}/{path.name}: {error.message}" for error in validator.iter_errors(json.loads(path.read_bytes()))]
        for path in sorted((root / folder).glob("*.pt")):
            try:
                torch.load(path, weights_only=True)
            except Exception as e:
                wrong.append(f"{folder}/{path.name}: cannot be loaded: {type(e).__name__}: {e}")
    return wrong
