from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from fifomark.core.errors import SpoolError
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


def steps(ledger: Ledger) -> int:
    """How many instructions SQLite needs to count ada's attempts."""
    seen: list[None] = []
    ledger._db.set_progress_handler(lambda: seen.append(None), 1)
    ledger.attempts.used("digits", "ada", ALL, received=Span(100, 200))
    ledger.attempts.in_hand("digits", "ada")
    ledger._db.set_progress_handler(None, 0)
    return len(seen)


@pytest.mark.parametrize("owner", ["eve", "ada"])
def test_counting_attempts_costs_the_same_however_many_others_there_are(tmp_path: Path, owner: str) -> None:
    ledger = Ledger(tmp_path / "l")
    fill(ledger, 20, owner="ada")
    alone = steps(ledger)
    with ledger.batch():
        fill(ledger, 20_000, owner="eve")
        fill(ledger, 20_000, owner=owner, state="rejected", reason="attempts-exhausted")
    assert steps(ledger) <= alone + 5
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
    reader = Ledger(tmp_path / "l", read_only=True)
    with pytest.raises(SpoolError, match="older fifomark"):
        reader.attempts.used("digits", "ada", ALL)
    reader.close()
    ledger = Ledger(tmp_path / "l")
    assert ledger.attempts.used("digits", "ada", ALL) == 1
    ledger.close()
