"""A disk that is full or out of order, and a ledger that is locked, damaged or gone: words, an exit code, and nothing lost."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from daemon_bench import Bench

from fifomark.cli.main import main
from fifomark.core.errors import InternalError
from fifomark.core.outcome import Failed, Reason, SanitizeTicket
from fifomark.core.policy import Limits, Policy
from fifomark.core.states import State
from fifomark.ledger.database import transaction
from fifomark.spool.moves import publishing
from fifomark.workers.main import unsanitized

DISK_ERROR = Failed(reason=Reason(code="disk-error", message="evaluating/x: No space left on device", blame="operator"))
TICKET = SanitizeTicket(submission=1, path="/s/a.pt", name="a.pt", clean_path="/s/evaluating/.a.pt", policy=Policy(), limits=Limits())


@pytest.fixture
def ledger(bench: Bench) -> Path:
    """The ledger's file, of a spool whose daemon has marked something and ended."""
    for i in range(20):
        bench.drop(f"ada{i}.pt")
    bench.drain()
    bench.ledger.close()
    return bench.root / "ledger.sqlite3"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *of, **how: connect(*of, **how | {"timeout": 0.1}))


def test_a_full_disk_fails_no_submission_but_stops_the_daemon(bench: Bench) -> None:
    bench.drop("ada.pt")
    bench.sanitizers._judge = lambda ticket: DISK_ERROR
    bench.tick()
    with pytest.raises(InternalError, match="No space left on device; what is in hand was put back"):
        bench.tick()
    bench.daemon.release(bench.now)
    assert (bench.ledger.get(1).state, bench.ledger.get(1).tries) == (State.SANITIZING, 0)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/s/a.pt", None, "/s/evaluating/.a.pt"), "disk-error"),
        (OSError(errno.EROFS, "Read-only file system", "/s/evaluating/.a.pt"), "disk-error"),
        (OSError(errno.EIO, "Input/output error", "/s/evaluating/.a.pt"), "disk-error"),
        (OSError(errno.EIO, "Input/output error", "/s/a.pt", None, "/s/evaluating/.a.pt"), "internal-error"),
        (OSError(errno.EMFILE, "Too many open files"), "internal-error"),
    ],
)
def test_what_a_disk_does_not_take_is_told_from_what_it_does_not_give(error: OSError, code: str) -> None:
    assert unsanitized(error, TICKET).reason.code == code


def test_a_transaction_that_cannot_be_committed_is_over(tmp_path: Path) -> None:
    db = sqlite3.connect(tmp_path / "db", isolation_level=None)
    db.executescript(
        "PRAGMA foreign_keys = ON; CREATE TABLE a (x PRIMARY KEY); CREATE TABLE b (x REFERENCES a (x) DEFERRABLE INITIALLY DEFERRED);"
    )
    with pytest.raises(sqlite3.IntegrityError), transaction(db):
        db.execute("INSERT INTO b VALUES (1)")  # found out at the commit
    assert not db.in_transaction
    with transaction(db):
        db.execute("INSERT INTO a VALUES (1)")
    db.close()


def test_the_first_error_is_told_when_tidying_up_fails_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(path: str) -> None:
        raise OSError(errno.EROFS, "Read-only file system", path)

    monkeypatch.setattr(os, "unlink", broken)
    with pytest.raises(OSError, match=r"No space left on device.*report\.json"), publishing(str(tmp_path / "report.json")):
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.usefixtures("impatient")
def test_a_ledger_that_another_process_writes_to_is_named(ledger: Path, bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    bench.drop("bob.pt")
    other = sqlite3.connect(ledger, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert main(["drain", "--spool", str(bench.root)]) == 3
    said = capsys.readouterr().err
    assert said == f"fifomark: {ledger}: database is locked; another process writes to it: end that one, and start again\n"
    other.close()


def header(path: Path) -> None:
    path.write_bytes(b"this is no database" * 1000)


def pages(path: Path) -> None:
    body = bytearray(path.read_bytes())
    body[4096:] = b"\x55" * (len(body) - 4096)
    path.write_bytes(body)


@pytest.mark.parametrize("damage", [header, pages])
@pytest.mark.parametrize("command", [["drain"], ["status"], ["report", "1"]])
def test_a_damaged_ledger_is_named_with_the_way_out(
    ledger: Path, bench: Bench, damage: Callable[[Path], None], command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    damage(ledger)
    assert main([*command, "--spool", str(bench.root)]) in (2, 3)
    said = capsys.readouterr().err
    assert str(ledger) in said
    assert "fifomark fsck --rebuild" in said
    assert "Traceback" not in said


def emptied(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("lose", [Path.unlink, emptied])
def test_a_ledger_that_is_gone_is_not_replaced_in_silence(
    ledger: Path, bench: Bench, lose: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    lose(ledger)
    assert main(["drain", "--spool", str(bench.root)]) == 2
    said = capsys.readouterr().err
    assert "ledger.sqlite3: is gone or empty, though it knew done/000000" in said
    assert "fifomark fsck --rebuild" in said


@pytest.fixture(autouse=True)
def _closed(bench: Bench) -> Iterator[None]:
    yield
    bench.ledger.close()
