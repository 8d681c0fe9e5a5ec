"""Ledger and folders: what does not agree is told, mended without deleting anything, and a lost ledger is made again from the folders."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from daemon_bench import UNSAFE, Bench

from fifomark.cli.main import main
from fifomark.core.outcome import Failed, Lost, Reason
from fifomark.core.report import decode
from fifomark.core.states import State
from fifomark.daemon.fsck import check
from fifomark.daemon.rebuild import rebuild
from fifomark.daemon.repair import repair

SLOW = Reason(code="limit-exceeded", message="it took longer than it may", blame="submitter")


@pytest.fixture
def mixed(bench: Bench) -> Bench:
    """One of every ending, by id: 1 done, 2 rejected, 3 failed, 4 evaluating, 5 sanitized, 6 waiting, 7 held."""
    bench.bad["b2.pt"] = UNSAFE
    bench.outcomes["c3.pt"] = Failed(reason=SLOW)
    for i, name in enumerate(("a1.pt", "b2.pt", "c3.pt")):
        bench.drop(name, mtime=100 + i)
    bench.drain()
    for i, name in enumerate(("d4.pt", "e5.pt", "f6.pt", "g7.pt")):
        bench.drop(name, mtime=200 + i, body=name.encode())
    bench.ledger.steering.pause("in a test")
    bench.tick()
    with bench.ledger.batch():
        bench.ledger.steering.hold(6, bench.now)
        bench.ledger.steering.hold(7, bench.now)
        bench.ledger.steering.pause(None)
    bench.outcomes["d4.pt"] = bench.outcomes["e5.pt"] = Lost(how="the test")
    while bench.ledger.get(5).state is not State.SANITIZED or bench.ledger.get(4).state is not State.EVALUATING:
        bench.tick()
    with bench.ledger.batch():
        bench.ledger.steering.release(6, bench.now)
    return bench


def problems(bench: Bench) -> list[tuple[str, int | None, str | None]]:
    return [(problem.kind, problem.id, problem.path) for problem in check(bench.spool.layout, bench.ledger)]


def mended(bench: Bench) -> list[tuple[str, str | None]]:
    return [(problem.kind, remedy) for problem, remedy in repair(bench.spool, bench.ledger, bench.now)]


def test_a_spool_in_the_middle_of_its_work_has_no_problems(mixed: Bench) -> None:
    states = {id: mixed.ledger.get(id).state for id in range(1, 8)}
    assert states == {
        1: State.DONE, 2: State.REJECTED, 3: State.FAILED, 4: State.EVALUATING, 5: State.SANITIZED, 6: State.QUEUED, 7: State.HELD
    }  # fmt: skip
    assert problems(mixed) == []


BREAKAGES: list[tuple[str, tuple[str, int | None], str | None]] = [
    ("done/00000001-a1.pt", ("file", 1), None),
    ("done/00000001-a1.json", ("report", 1), "written again from what the ledger knows of it"),
    ("rejected/00000002-b2.pt.quarantined", ("file", 2), None),
    ("rejected/00000002-b2.json", ("report", 2), "written again from what the ledger knows of it"),
    ("evaluating/00000004-d4.pt", ("file", 4), "ended as failed"),
    ("originals/00000004-d4.pt.original", ("file", 4), "ended as failed"),
    ("evaluating/00000005-e5.pt", ("file", 5), "ended as failed"),
    ("incoming/f6.pt", ("file", 6), "withdrawn"),
    ("incoming/g7.pt", ("file", 7), "withdrawn"),
]


@pytest.mark.parametrize(("path", "problem", "remedy"), BREAKAGES, ids=[path for path, _, _ in BREAKAGES])
def test_a_file_that_is_lost_is_told_and_mended_as_far_as_can_be(
    mixed: Bench, path: str, problem: tuple[str, int | None], remedy: str | None
) -> None:
    (mixed.root / path).unlink()
    assert problems(mixed) == [(*problem, path)]
    assert mended(mixed) == [(problem[0], remedy)]
    if remedy is not None:
        assert [problem for problem in problems(mixed) if problem[0] != "stray"] == []


def test_of_what_failed_something_has_to_be_left(mixed: Bench) -> None:
    (mixed.root / "failed/00000003-c3.pt").unlink()
    assert problems(mixed) == []
    (mixed.root / "originals/00000003-c3.pt.original").unlink()
    assert problems(mixed) == [("file", 3, "failed/00000003-c3.pt")]


def test_a_report_made_from_the_ledger_keeps_what_the_ledger_knows(mixed: Bench) -> None:
    path = mixed.root / "rejected/00000002-b2.json"
    path.write_text("half a repo")
    assert problems(mixed) == [("report", 2, "rejected/00000002-b2.json")]
    mended(mixed)
    report = decode(path.read_bytes())
    assert (report.state, report.verdict, report.reason.code) == (State.REJECTED, "unsafe", "unsafe")
    assert [step.state for step in report.timeline] == [State.QUEUED, State.SANITIZING, State.REJECTED]
    assert "the report was lost" in report.reason.message


def test_a_file_that_lies_where_it_was_before_is_moved_on(mixed: Bench) -> None:
    os.rename(mixed.root / "done/00000001-a1.pt", mixed.root / "evaluating/00000001-a1.pt")
    assert {kind for kind, _, _ in problems(mixed)} == {"file", "stray"}
    assert mended(mixed)[0] == ("file", "found where it was before, and moved")
    assert (mixed.root / "done/00000001-a1.pt").exists()


@pytest.mark.parametrize("path", ["done/readme.txt", "evaluating/00000001-a1.pt", "failed/00000099-z.pt", "originals/.00000042-y.pt"])
def test_what_belongs_to_no_submission_goes_to_lost_and_found(mixed: Bench, path: str) -> None:
    (mixed.root / path).write_text("mine")
    assert [(kind, where) for kind, _, where in problems(mixed)] == [("stray", path)]
    mended(mixed)
    assert (mixed.root / "lost+found" / Path(path).name).read_text() == "mine"
    assert problems(mixed) == []


def test_what_a_killed_writer_left_half_written_is_no_problem(mixed: Bench) -> None:
    (mixed.root / "done/.00000001-a1.json.tmp").write_text("half")
    assert problems(mixed) == []


def test_counts_that_are_wrong_are_counted_again(mixed: Bench) -> None:
    mixed.ledger._db.execute("UPDATE tallies SET n = 5 WHERE state = 'done'")
    assert problems(mixed) == [("ledger", None, None)]
    assert mended(mixed) == [("ledger", "counted again")]
    assert problems(mixed) == []


def test_a_move_that_is_under_way_is_no_problem_and_is_finished_by_a_repair(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.drop("ada.pt")
    monkeypatch.setattr("fifomark.daemon.daemon.place", lambda *_: set())
    bench.tick()
    assert bench.ledger.get(1).moving
    assert problems(bench) == []
    assert mended(bench) == []
    assert (bench.root / "sanitizing/00000001-ada.pt").exists()


def broken(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5000] + os.urandom(20000))


@pytest.mark.parametrize("loss", [Path.unlink, broken], ids=["lost", "broken"])
def test_a_ledger_is_made_again_from_the_folders(mixed: Bench, loss: Callable[[Path], None], capsys: pytest.CaptureFixture[str]) -> None:
    before = {id: mixed.ledger.get(id) for id in range(1, 8)}
    reports = {path: path.read_bytes() for path in mixed.root.glob("[drf]*/*.json")}
    assert len(reports) == 3
    mixed.ledger.close()
    loss(mixed.spool.layout.ledger)
    assert main(["fsck", "--rebuild", "--spool", str(mixed.root)]) == 0, capsys.readouterr().err
    mixed.outcomes.clear()
    mixed.restart()
    for id in (1, 2, 3):
        now, then = mixed.ledger.get(id), before[id]
        for what in ("name", "owner", "rubric", "state", "attempt", "verdict", "points", "reason", "message"):
            assert getattr(now, what) == getattr(then, what), what
    assert [mixed.ledger.get(id).name for id in (4, 5)] == ["d4.pt", "e5.pt"]
    mixed.drop("h8.pt", mtime=50)
    mixed.drain()
    assert mixed.ledger.named("h8.pt")[0].id > 7 - 2, "an id that was given is not given again"
    assert {row.name: row.state for row in mixed.ledger.upkeep.everyone() if row.id > 3} == dict.fromkeys(
        ("d4.pt", "e5.pt", "f6.pt", "g7.pt", "h8.pt"), State.DONE
    )
    assert (mixed.root / "originals/00000004-d4.pt.original").read_bytes() == b"d4.pt"
    assert {path: path.read_bytes() for path in reports} == reports
    assert problems(mixed) == []


def test_names_that_cannot_be_printed_outlive_a_rebuild(bench: Bench) -> None:
    names = [os.fsdecode(name) for name in (b"new\nline.pt", b"\xff.pt", b"\x1b[31m.pt", b"x" * 252 + b".pt", b"no ending")]
    for name in names:
        bench.drop(name)
    bench.drain()
    reports = {path: path.read_bytes() for path in bench.root.glob("done/*.json")}
    assert len(reports) == len(names)
    bench.ledger.close()
    list(rebuild(bench.spool, bench.now))
    bench.restart()
    assert problems(bench) == []
    assert [row.pruned for row in bench.ledger.upkeep.everyone()] == [0] * len(names)


def test_where_there_are_several_rubrics_nothing_is_marked_by_guesswork(mixed: Bench) -> None:
    other = mixed.root / "rubrics/other"
    shutil.copytree(mixed.root / "rubrics/digits", other)
    mixed.ledger.close()
    list(rebuild(mixed.spool, mixed.now))
    mixed.restart()
    mixed.drain()
    held = mixed.ledger.get(4)
    assert (held.state, held.name) == (State.HELD, "d4.pt")
    assert "its rubric was lost with the ledger" in (held.message or "")


def test_two_files_of_one_name_both_come_back(mixed: Bench) -> None:
    mixed.drop("d4.pt", body=b"a newer one")
    mixed.ledger.close()
    list(rebuild(mixed.spool, mixed.now))
    assert (mixed.root / "incoming/d4.pt").read_bytes() == b"a newer one"
    assert (mixed.root / "incoming/d4.00000004.pt").read_bytes() == b"d4.pt"


def test_the_command_says_what_is_wrong_and_what_to_do(mixed: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    mixed.ledger.close()
    assert main(["fsck", "--spool", str(mixed.root)]) == 0
    assert "ledger and folders agree" in capsys.readouterr().err
    (mixed.root / "done/00000001-a1.json").unlink()
    assert main(["fsck", "--spool", str(mixed.root)]) == 1
    seen = capsys.readouterr()
    assert seen.out == "00000001: done/00000001-a1.json: a1.pt is done, and its report is not there\n"
    assert "fifomark fsck --repair" in seen.err
    assert main(["fsck", "--repair", "--spool", str(mixed.root)]) == 0
    assert main(["fsck", "--json", "--spool", str(mixed.root)]) == 0


def test_a_broken_ledger_is_named_with_the_way_out(mixed: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    mixed.ledger.close()
    for ending in ("-wal", "-shm"):
        Path(f"{mixed.spool.layout.ledger}{ending}").unlink(missing_ok=True)
    with sqlite3.connect(mixed.spool.layout.ledger) as db:
        (size,) = db.execute("PRAGMA page_size").fetchone()
    db.close()
    with open(mixed.spool.layout.ledger, "r+b") as file:
        file.seek(size)
        file.write(os.urandom(size * 4))
    for arguments in (["status"], ["fsck"], ["drain"]):
        code = main([*arguments, "--spool", str(mixed.root)])
        error = capsys.readouterr().err
        assert code in (2, 3), arguments
        assert "ledger.sqlite3" in error
        assert "fifomark fsck --rebuild" in error
