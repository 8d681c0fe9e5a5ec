from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from fifomark.core.errors import SpoolError
from fifomark.core.states import State
from fifomark.ledger import schema
from fifomark.ledger.attempts import Span
from fifomark.ledger.ledger import Ledger

ALL = ("done", "rejected", "limit-exceeded")


def fill(ledger: Ledger, count: int, *, owner: str, state: str = "done", reason: str = "marked", received_at: float = 100.0) -> None:
    ledger._db.executemany(
        "INSERT INTO submissions (folder, name, kind, rubric, owner, state, order_ns, device, inode, size, mtime_ns, received_at, "
        "updated_at, reason) VALUES ('', ?, 'file', 'digits', ?, ?, 1, 1, 1, 1, 1, ?, 1, ?)",
        ((f"{owner}{i}".encode(), owner, state, received_at + i, reason) for i in range(count)),
    )


def steps(ledger: Ledger, what: Callable[[], object]) -> int:
    """How many instructions SQLite needs for `what`."""
    seen: list[None] = []
    ledger._db.set_progress_handler(lambda: seen.append(None), 1)
    what()
    ledger._db.set_progress_handler(None, 0)
    return len(seen)


def counting(ledger: Ledger) -> int:
    """What it costs to count ada's attempts."""
    return steps(
        ledger, lambda: (ledger.attempts.used("digits", "ada", ALL, received=Span(100, 200)), ledger.attempts.in_hand("digits", "ada"))
    )


def turning(ledger: Ledger) -> int:
    """What a turn of the daemon and a look at the status cost that find nothing new."""
    waiting = (State.EVALUATING, State.SANITIZED, State.SANITIZING, State.QUEUED, State.HELD)
    return steps(
        ledger,
        lambda: (
            ledger.counts(),
            ledger.next_ready(),
            ledger.has_ready(),
            ledger.in_state((State.SANITIZED,), -1),
            ledger.in_state(waiting, 5),
            ledger.recent(5),
        ),
    )


@pytest.mark.parametrize("owner", ["eve", "ada"])
def test_counting_attempts_costs_the_same_however_many_others_there_are(tmp_path: Path, owner: str) -> None:
    ledger = Ledger(tmp_path / "l")
    fill(ledger, 20, owner="ada")
    alone = counting(ledger)
    with ledger.batch():
        fill(ledger, 20_000, owner="eve")
        fill(ledger, 20_000, owner=owner, state="rejected", reason="attempts-exhausted")
    assert counting(ledger) <= alone + 5
    assert ledger.attempts.used("digits", "ada", ALL) == 20
    ledger.close()


def test_attempts_are_counted_by_how_and_when_they_ended(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "l")
    fill(ledger, 2, owner="ada")
    fill(ledger, 3, owner="ada", state="rejected", reason="unsafe", received_at=200)
    fill(ledger, 4, owner="ada", state="failed", reason="internal-error")
    fill(ledger, 5, owner="ada", state="failed", reason="limit-exceeded")
    fill(ledger, 6, owner="ada", state="evaluating", reason="")
    counted = [ledger.attempts.used("digits", "ada", endings) for endings in (("done",), ("rejected",), ("limit-exceeded",), ALL)]
    assert counted == [2, 3, 5, 10]
    assert ledger.attempts.used("digits", "ada", ALL, received=Span(200, 202)) == 2
    assert ledger.attempts.used("digits", "ada", ("done",), apart_from=1) == 1
    assert ledger.attempts.used("other", "ada", ALL) == 0
    assert ledger.attempts.in_hand("digits", "ada") == 6
    ledger.close()


def test_a_ledger_of_the_first_version_knows_its_attempts_once_it_is_opened(tmp_path: Path) -> None:
    db = sqlite3.connect(tmp_path / "l")
    db.executescript(schema.MIGRATIONS[0] + "PRAGMA user_version = 1")
    db.execute(
        "INSERT INTO submissions (folder, name, kind, rubric, owner, state, order_ns, device, inode, size, mtime_ns, received_at, "
        "updated_at, reason) VALUES ('', x'61', 'file', 'digits', 'ada', 'done', 1, 1, 1, 1, 1, 1, 1, 'marked')"
    )
    db.commit()
    db.close()
    with pytest.raises(SpoolError, match="older fifomark"):
        Ledger(tmp_path / "l", read_only=True)
    ledger = Ledger(tmp_path / "l")
    assert ledger.attempts.used("digits", "ada", ALL) == 1
    assert ledger.counts()[State.DONE] == 1
    ledger.close()


@pytest.mark.parametrize("state", ["queued", "held", "done", "rejected"])
def test_a_turn_and_a_status_cost_the_same_however_many_wait_or_have_ended(tmp_path: Path, state: str) -> None:
    ledger = Ledger(tmp_path / "l")
    for other in ("queued", "held", "sanitizing", "sanitized", "evaluating", "done", "rejected", "failed"):
        fill(ledger, 20, owner=other, state=other)
    few = turning(ledger)
    with ledger.batch():
        fill(ledger, 20_000, owner="many", state=state)
    assert turning(ledger) <= few + 10
    assert ledger.counts()[State(state)] == 20_020
    ledger.close()


def test_the_tallies_follow_every_move(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "l")
    fill(ledger, 3, owner="ada", state="queued")
    with ledger.batch():
        ledger.move(1, State.SANITIZING, 1.0)
        ledger.move(2, State.HELD, 1.0)
    counted = dict(ledger._db.execute("SELECT state, count(*) FROM submissions GROUP BY state"))
    assert {state: n for state, n in ledger.counts().items() if n} == {State(state): n for state, n in counted.items()}
    ledger.close()
