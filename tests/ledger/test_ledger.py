from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from fifomark.core.errors import InternalError, SpoolError
from fifomark.core.findings import Verdict
from fifomark.core.states import State
from fifomark.core.submission import Arrival, Identity
from fifomark.core.text import shown
from fifomark.ledger.ledger import Ledger, Result
from fifomark.ledger.schema import MIGRATIONS, migrate

NOW = 2_000_000_000.0


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = Ledger(tmp_path / "ledger.sqlite3")
    yield opened
    opened.close()


def arrival(name: str, mtime: float, *, inode: int = 1, size: int = 10) -> Arrival:
    return Arrival(folder="", name=name, kind="file", identity=Identity(device=1, inode=inode, size=size, mtime_ns=int(mtime * 1e9)))


def admit(ledger: Ledger, *arrivals: Arrival, now: float = NOW, order: str = "mtime") -> int:
    with ledger.batch():
        return ledger.admission.admit(
            arrivals, now, order=order, rubric_of=lambda _: "digits", owner_of=lambda arrival: shown(arrival.name)
        )


def start(ledger: Ledger) -> str | None:
    with ledger.batch():
        claim = ledger.start(NOW)
        if claim is not None:
            ledger.in_place(claim.submission.id)
    return None if claim is None else claim.submission.name


def test_the_oldest_mtime_is_first_then_the_name_then_the_id(ledger: Ledger) -> None:
    admit(ledger, arrival("late", 300), arrival("b", 100), arrival("a", 100))
    admit(ledger, arrival("late", 300), arrival("b", 100), arrival("a", 100), arrival("oldest", 50))
    assert [start(ledger) for _ in range(5)] == ["oldest", "a", "b", "late", None]


def test_ids_are_given_in_order_of_mtime(ledger: Ledger) -> None:
    admit(ledger, arrival("z", 1), arrival("a", 2))
    assert ledger.named("z")[0].id < ledger.named("a")[0].id


def test_an_mtime_in_the_future_counts_as_the_admission(ledger: Ledger) -> None:
    admit(ledger, arrival("future", NOW + 1e6))
    admit(ledger, arrival("future", NOW + 1e6), arrival("now", NOW + 1), now=NOW + 2)
    assert start(ledger) == "future"


def test_by_arrival_nobody_can_forge_a_place(ledger: Ledger) -> None:
    admit(ledger, arrival("first", 200), order="arrival")
    admit(ledger, arrival("first", 200), arrival("forger", 1), order="arrival", now=NOW + 1)
    assert start(ledger) == "first"


def test_a_file_deleted_while_it_waits_is_withdrawn(ledger: Ledger) -> None:
    admit(ledger, arrival("a", 1))
    with ledger.batch():
        assert ledger.admission.withdraw_gone([("", "a"), ("", "never there")], NOW) == 1
    assert ledger.named("a")[0].state is State.WITHDRAWN
    assert start(ledger) is None


def test_a_file_replaced_while_it_waits_takes_its_new_place_and_keeps_its_id(ledger: Ledger) -> None:
    admit(ledger, arrival("a", 1), arrival("b", 2))
    id = ledger.named("a")[0].id
    admit(ledger, arrival("a", 3, inode=2, size=20), arrival("b", 2))
    assert ledger.named("a")[0].id == id
    assert ledger.named("a")[0].identity.size == 20
    assert [start(ledger), start(ledger)] == ["b", "a"]


def test_a_waiting_file_that_is_being_written_again_is_not_started(ledger: Ledger) -> None:
    admit(ledger, arrival("a", 1))
    with ledger.batch():
        ledger.admission.unsettle([("", "a")])
    assert start(ledger) is None
    assert not ledger.has_ready()
    admit(ledger, arrival("a", 1))
    assert start(ledger) == "a"


def test_the_same_name_may_be_dropped_again_once_the_first_was_taken(ledger: Ledger) -> None:
    admit(ledger, arrival("a", 1))
    start(ledger)
    assert admit(ledger, arrival("a", 2)) == 1
    assert [s.state for s in ledger.named("a")] == [State.QUEUED, State.SANITIZING]


def test_an_illegal_move_is_refused(ledger: Ledger) -> None:
    admit(ledger, arrival("a", 1))
    with pytest.raises(InternalError, match="from queued to done"):
        ledger.move(1, State.DONE, NOW)


def test_a_batch_is_committed_whole_or_not_at_all(ledger: Ledger) -> None:
    admit(ledger, arrival("a", 1))

    def start_and_fail() -> None:
        with ledger.batch():
            ledger.start(NOW)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        start_and_fail()
    assert ledger.named("a")[0].state is State.QUEUED


def test_a_final_submission_is_never_worked_on_again(ledger: Ledger) -> None:
    admit(ledger, arrival("a", 1))
    start(ledger)
    result = Result(
        state=State.REJECTED, verdict=Verdict.UNSAFE, family=None, points=None, points_possible=None, reason="unsafe", message="m"
    )
    with ledger.batch():
        settled = ledger.settle(1, result, b"report", NOW)
    assert (settled.moving, ledger.report(1)) == (True, b"report")
    with ledger.batch():
        ledger.in_place(1)
    assert (ledger.get(1).moving, ledger.report(1)) == (False, None)
    assert start(ledger) is None
    with pytest.raises(InternalError):
        ledger.move(1, State.DONE, NOW)
    assert [state for state, _ in ledger.timeline(1)] == [State.QUEUED, State.SANITIZING, State.REJECTED]


def test_names_of_any_bytes_come_back_as_they_were(ledger: Ledger) -> None:
    name = os.fsdecode(b"\xff\n.pt")
    admit(ledger, arrival(name, 1))
    assert ledger.get(1).name == name


def test_a_name_with_its_extension_comes_before_one_without(ledger: Ledger) -> None:
    admit(ledger, arrival("alice.pt", 1), arrival("alice.pt.pt", 2), arrival("alice.txt", 3))
    assert [s.name for s in ledger.named("alice.pt")] == ["alice.pt"]
    assert {s.name for s in ledger.named_without_extension("alice")} == {"alice.pt", "alice.txt"}


def test_what_cannot_be_taken_is_held_until_it_is_replaced_or_the_daemon_starts_again(ledger: Ledger) -> None:
    admit(ledger, arrival("a", 1), arrival("b", 2))
    for name in ("a", "b"):
        assert start(ledger) == name
        with ledger.batch():
            ledger.hold(ledger.named(name)[0].id, "not ours", NOW)
    admit(ledger, arrival("a", 3, inode=9), arrival("b", 2))
    assert [ledger.named(name)[0].state for name in ("a", "b")] == [State.QUEUED, State.HELD]
    with ledger.batch():
        ledger.release_held(NOW)
    assert ledger.named("b")[0].state is State.QUEUED


def test_a_reader_needs_no_right_to_write_beside_a_ledger_that_is_closed(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    admit(ledger, arrival("a", 1))
    ledger.close()
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    reader = Ledger(tmp_path / "ledger.sqlite3", read_only=True)
    assert reader.counts()[State.QUEUED] == 1
    assert not (tmp_path / "ledger.sqlite3-shm").exists()
    reader.close()


def test_a_folder_in_the_ledgers_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "l").mkdir()
    with pytest.raises(SpoolError, match="cannot be used as a ledger"):
        Ledger(tmp_path / "l")


def test_a_ledger_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "l") as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(SpoolError, match="newer fifomark"):
        Ledger(tmp_path / "l")


def test_a_file_that_is_no_ledger_is_named(tmp_path: Path) -> None:
    (tmp_path / "l").write_bytes(b"this is not a database" * 100)
    with pytest.raises(SpoolError, match=f"^{tmp_path}/l: cannot be used as a ledger"):
        Ledger(tmp_path / "l")


def test_commits_are_durable_and_in_wal_mode(ledger: Ledger, tmp_path: Path) -> None:
    assert ledger._db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert ledger._db.execute("PRAGMA synchronous").fetchone() == (2,)


def test_nobody_reads_a_ledger_that_is_half_way_up_to_date(tmp_path: Path) -> None:
    seen = set()
    with closing(sqlite3.connect(tmp_path / "l.sqlite3", isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        with closing(sqlite3.connect(tmp_path / "l.sqlite3")) as reader:

            def look(statement: str) -> None:
                seen.add(reader.execute("PRAGMA user_version").fetchone()[0])

            db.set_trace_callback(look)
            assert migrate(db) == 0
            look("at the end")
    assert seen == {0, len(MIGRATIONS)}
