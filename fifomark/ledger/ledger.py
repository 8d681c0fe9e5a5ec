"""The FIFO ledger: who is next, and where everyone stands. One writer, the daemon; SQLite in WAL mode with synchronous=FULL."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from types import TracebackType

from fifomark.core.errors import InternalError, SpoolError
from fifomark.core.findings import Verdict
from fifomark.core.record import Record
from fifomark.core.states import MOVES, State
from fifomark.core.submission import Claim, Submission
from fifomark.ledger.admission import Admission
from fifomark.ledger.attempts import Attempts
from fifomark.ledger.database import make_last, next_step, opened, transaction
from fifomark.ledger.durations import Durations
from fifomark.ledger.events import record
from fifomark.ledger.fingerprints import Fingerprints
from fifomark.ledger.history import History
from fifomark.ledger.retention import Retention
from fifomark.ledger.rows import COLUMNS, submission_of
from fifomark.ledger.schema import MIGRATIONS, migrate
from fifomark.ledger.steering import HELD, Steering
from fifomark.ledger.upkeep import Upkeep

_ENDED = "('done', 'rejected', 'failed', 'withdrawn')"
_BEFORE = {to: ", ".join(f"'{state}'" for state in State if to in MOVES[state]) for to in State}  # where a move may begin
_IN_LINE = "ORDER BY order_ns, name, id"


class Result(Record):
    """What `settle` keeps of a report in the ledger, so that `status` need not open one."""

    state: State
    verdict: Verdict | None
    family: str | None
    points: float | None
    points_possible: float | None
    reason: str
    message: str


class Ledger:
    """Opens, and creates, the ledger at `path`; `read_only` for everyone but the daemon."""

    def __init__(self, path: str | os.PathLike[str], *, read_only: bool = False) -> None:
        self._path = os.fspath(path)
        if not read_only:
            make_last(self._path)
        uri = "file:" + self._path.replace("%", "%25").replace("?", "%3f").replace("#", "%23") + (self._reading() if read_only else "")
        prepare = self._check_reader if read_only else self._prepare
        self._db = opened(uri, prepare, "a ledger", SpoolError, uri=True, advice=next_step, path=self._path)
        self.attempts, self.fingerprints = Attempts(self._db), Fingerprints(self._db)
        self.history, self.retention, self.durations = History(self._db), Retention(self._db), Durations(self._db)
        self.admission, self.steering, self.upkeep = Admission(self._db, self.move), Steering(self._db, self.move), Upkeep(self._db)

    def _reading(self) -> str:
        """How to open for reading: a reader who may not write beside the ledger can do without, as long as nobody writes to it."""
        closed = not os.path.exists(f"{self._path}-wal") and not os.access(os.path.dirname(self._path), os.W_OK)
        return "?mode=ro&immutable=1" if closed else "?mode=ro"

    def _prepare(self, db: sqlite3.Connection) -> None:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        migrate(db)
        self._check(db)

    def _check(self, db: sqlite3.Connection) -> None:
        version = _version(db)
        if version > len(MIGRATIONS):
            raise SpoolError(f"{self._path}: made by a newer fifomark (version {version} of the ledger); update fifomark")

    def _check_reader(self, db: sqlite3.Connection) -> None:
        self._check(db)
        if 0 < _version(db) < len(MIGRATIONS):
            raise SpoolError(f"{self._path}: made by an older fifomark; fifomark drain or serve brings it up to date")

    @property
    def is_bare(self) -> bool:
        """Whether it has no tables: read before whoever makes it has got that far."""
        return _version(self._db) == 0

    def close(self) -> None:
        self._db.close()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close it. What SQLite raised on the way becomes an InternalError that names the file and the next step."""
        self.close()
        if isinstance(error, sqlite3.Error):
            raise InternalError(f"{self._path}: {error}; {next_step(error)}") from error

    def batch(self) -> AbstractContextManager[None]:
        """Everything inside is committed at once, with one fsync, or not at all."""
        return transaction(self._db)

    # The way of a submission

    def next_ready(self, passing_over: Collection[tuple[str, str]] = (), broken: Collection[str] = ()) -> Submission | None:
        """The earliest submission that is ready, none of `passing_over`: (rubric, owner) of those that have to wait; nor of a rubric that
        is `broken`."""
        others = f"AND (rubric, owner) NOT IN (VALUES {', '.join(['(?, ?)'] * len(passing_over))})" if passing_over else ""
        of = f"AND rubric NOT IN ({', '.join('?' * len(broken))})" if broken else ""
        values = (*(word for pair in passing_over for word in pair), *broken)
        return next(iter(self._select(f"state = 'queued' AND ready = 1 {others} {of}", f"{_IN_LINE} LIMIT 1", values)), None)

    def start(self, now: float, passing_over: Collection[tuple[str, str]] = (), broken: Collection[str] = ()) -> Claim | None:
        """Take `next_ready`; its intent (SANITIZING, moving) stands with the commit of this batch."""
        ready = self.next_ready(passing_over, broken)
        if ready is None:
            return None
        return Claim(submission=self.move(ready.id, State.SANITIZING, now, also="moving = 1"))

    def has_ready(self) -> bool:
        """Whether a submission waits that could be started."""
        return self._db.execute("SELECT 1 FROM submissions WHERE state = 'queued' AND ready = 1 LIMIT 1").fetchone() is not None

    def try_again(self, id: int) -> Submission:
        """Count one more try at whatever is being done with a submission; committed before the work starts."""
        (row,) = self._db.execute(f"UPDATE submissions SET tries = tries + 1 WHERE id = ? RETURNING {COLUMNS}", (id,)).fetchall()
        return submission_of(row)

    def hold(self, id: int, why: str, now: float) -> None:
        """Leave a submission where it lies in incoming/ until it is replaced or the daemon starts again."""
        self.move(id, State.HELD, now, why, also="moving = 0, message = ?", values=(why,))

    def release_held(self, now: float) -> None:
        """Let everything wait again that was held, but for what the operator holds."""
        for submission in self.in_state((State.HELD,), -1):
            if submission.reason != HELD:
                self.steering.release(submission.id, now)

    def uncount(self, id: int) -> None:
        """Take back a try that was stopped by us."""
        self._db.execute("UPDATE submissions SET tries = max(tries - 1, 0) WHERE id = ?", (id,))

    def sanitized(self, id: int, inspection: bytes, now: float) -> Submission:
        return self.move(id, State.SANITIZED, now, also="moving = 1, tries = 0, inspection = ?", values=(inspection,))

    def ready_for_slots(self) -> Iterator[Submission]:
        """What is sanitized and lies in its place, in line; to be read before anything of it is changed."""
        rows = self._db.execute(f"SELECT {COLUMNS} FROM submissions WHERE state = 'sanitized' AND moving = 0 {_IN_LINE}")
        yield from map(submission_of, rows)

    def rubrics_before_slots(self) -> list[str]:
        """Those of what is sanitized."""
        return [rubric for (rubric,) in self._db.execute("SELECT DISTINCT rubric FROM submissions WHERE state = 'sanitized'")]

    def begin(self, id: int, slot: str, now: float) -> Submission:
        """A slot has it; one more try is counted."""
        return self.move(id, State.EVALUATING, now, slot, also="slot = ?, tries = tries + 1", values=(slot,))

    def came_to(self, id: int, at: float) -> None:
        """Its worker began with it at `at`: before, it had only lain ready there, and that is none of its time on the slot."""
        self._db.execute("UPDATE submissions SET updated_at = ? WHERE id = ? AND state = 'evaluating'", (at, id))

    def put_back(self, id: int, now: float, note: str) -> Submission:
        """An evaluation that did not come to an end waits for a slot again."""
        return self.move(id, State.SANITIZED, now, note, also="slot = NULL")

    def settle(self, id: int, result: Result, report: bytes, now: float) -> Submission:
        """The end of a submission: state and report are committed together, and from then on it is never worked on again."""
        values = (result.verdict, result.family, result.points, result.points_possible, result.reason, result.message, report)
        also = "moving = 1, verdict = ?, family = ?, points = ?, points_possible = ?, reason = ?, message = ?, report = ?"
        return self.move(id, result.state, now, result.reason, also=also, values=values)

    def in_place(self, id: int) -> None:
        """The files of a submission lie where its state says; what was kept to finish the move is no longer needed once it is final."""
        self._db.execute(
            f"UPDATE submissions SET moving = 0, inspection = iif(state IN {_ENDED}, NULL, inspection), "
            f"report = iif(state IN {_ENDED}, NULL, report) WHERE id = ?",
            (id,),
        )

    def move(
        self, id: int, to: State, now: float, note: str | None = None, *, also: str = "id = id", values: tuple[object, ...] = ()
    ) -> Submission:
        """One legal move by compare-and-swap, and what else it changes in the row; InternalError where the table of moves has it not."""
        rows = self._db.execute(
            f"UPDATE submissions SET {also}, state = ?, updated_at = ? WHERE id = ? AND state IN ({_BEFORE[to]}) RETURNING {COLUMNS}",
            (*values, to, now, id),
        ).fetchall()
        if not rows:
            found = self.find(id)
            raise InternalError(f"submission {id} cannot go from {found.state if found else None} to {to}")
        record(self._db, id, now, to, note)
        return submission_of(rows[0])

    # Reading

    def get(self, id: int) -> Submission:
        submission = self.find(id)
        if submission is None:
            raise SpoolError(f"no submission has the id {id}")
        return submission

    def find(self, id: int) -> Submission | None:
        if not 0 < id < 1 << 63:  # what SQLite counts with
            return None
        return next(iter(self._select("id = ?", "", (id,))), None)

    def named(self, name: str) -> list[Submission]:
        """Submissions dropped under exactly this name, newest first."""
        return self._select("name = ?", "ORDER BY id DESC", (os.fsencode(name),))

    def named_without_extension(self, name: str) -> list[Submission]:
        """Submissions dropped under `name` and an extension, newest first."""
        name_bytes = os.fsencode(name)
        rows = self._select("name > ? AND name < ?", "ORDER BY id DESC", (name_bytes + b".", name_bytes + b"/"))  # "/" follows "."
        return [submission for submission in rows if os.path.splitext(submission.name)[0] == name]

    def inspection(self, id: int) -> bytes | None:
        return self._blob("inspection", id)

    def report(self, id: int) -> bytes | None:
        return self._blob("report", id)

    def _blob(self, column: str, id: int) -> bytes | None:
        row = self._db.execute(f"SELECT {column} FROM submissions WHERE id = ?", (id,)).fetchone()
        return None if row is None else row[0]

    def timeline(self, id: int) -> list[tuple[State, float]]:
        return [(State(s), at) for s, at in self._db.execute("SELECT state, at FROM events WHERE submission = ? ORDER BY rowid", (id,))]

    def counts(self) -> dict[State, int]:
        """From a table that the database itself keeps: counting a million rows would cost more than all else that a turn does."""
        found = dict(self._db.execute("SELECT state, n FROM tallies"))
        return {state: found.get(state, 0) for state in State}

    def unfinished(self) -> list[Submission]:
        """What recovery has to look at: everything that is in our hands or on the move, in line."""
        return self._select("moving = 1 OR state IN ('sanitizing', 'sanitized', 'evaluating')", _IN_LINE)

    def in_state(self, states: Sequence[State], limit: int) -> list[Submission]:
        """At most `limit` (-1: all) in line. State by state, since only so does the index give them in order."""
        found = [row for state in states for row in self._select("state = ?", f"{_IN_LINE} LIMIT ?", (state, limit))]
        found.sort(key=lambda row: (row.order_ns, os.fsencode(row.name), row.id))
        return found if limit < 0 else found[:limit]

    def recent(self, limit: int) -> list[Submission]:
        """The submissions that ended last, newest first."""
        # INDEXED BY: without it the planner goes by state, and sorts all that ever ended.
        return self._select(f"state IN {_ENDED}", "ORDER BY updated_at DESC, id DESC LIMIT ?", (limit,), "INDEXED BY ended")

    def _select(self, where: str, tail: str, values: tuple[object, ...] = (), how: str = "") -> list[Submission]:
        return [submission_of(row) for row in self._db.execute(f"SELECT {COLUMNS} FROM submissions {how} WHERE {where} {tail}", values)]


def _version(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA user_version").fetchone()[0])
