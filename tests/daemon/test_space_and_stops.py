"""When nothing new is taken: the disk is nearly full, a rubric is wrong, the daemon is to stop."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from daemon_bench import Bench

from fifomark.core.outcome import Failed, Reason
from fifomark.core.states import State
from fifomark.spool.spool import Spool


@pytest.fixture
def lenient(tmp_path: Path) -> Bench:
    bench = Bench(tmp_path / "spool")
    shutil.copytree(bench.root / "rubrics/digits", bench.root / "rubrics/extra")
    (bench.root / "incoming/extra").mkdir()
    bench.ledger.close()
    return Bench(bench.root, lenient=True)


def reload(bench: Bench) -> None:
    bench.daemon.adopt(Spool(bench.root), bench.daemon.rubrics, bench.sanitizers, bench.slots)


def states(bench: Bench) -> dict[str, State]:
    return {submission.name: submission.state for submission in bench.ledger.in_state(tuple(State), -1)}


def test_on_a_full_disk_nothing_new_is_taken_and_what_was_taken_is_marked(bench: Bench) -> None:
    bench.drop("ada.pt")
    bench.tick()
    bench.settle("min_free_bytes = 1_000_000_000_000_000")
    reload(bench)
    bench.drop("bob.pt")
    bench.tick(9)
    assert states(bench) == {"ada.pt": State.DONE, "bob.pt": State.QUEUED}
    assert "nearly full" in bench.daemon.notices[0]
    settings = bench.root / "fifomark.toml"
    settings.write_text(settings.read_text().replace("min_free_bytes = 1_000_000_000_000_000", "min_free_bytes = 0"))
    reload(bench)
    bench.drain()
    assert states(bench)["bob.pt"] is State.DONE
    assert bench.daemon.notices == ()


def test_a_daemon_that_closes_starts_nothing_and_ends_what_runs(bench: Bench) -> None:
    for name in ("ada.pt", "bob.pt"):
        bench.drop(name)
    bench.tick(3)
    assert states(bench)["ada.pt"] is State.EVALUATING
    bench.daemon.closing = True
    bench.tick(5)
    assert states(bench)["ada.pt"] is State.DONE
    assert states(bench)["bob.pt"] in (State.QUEUED, State.SANITIZING, State.SANITIZED)
    bench.daemon.release(bench.now)
    assert bench.ledger.get(2).tries == 0
    bench.restart()
    bench.drain()
    assert states(bench)["bob.pt"] is State.DONE


def test_a_rubric_that_is_broken_stops_its_own_submissions_only(lenient: Bench) -> None:
    rubric = lenient.root / "rubrics/extra/rubric.toml"
    whole = rubric.read_text()
    for i in range(7):  # more than may wait for a slot: they must not keep the others out
        lenient.drop(f"first{i}.pt", mtime=i, folder="extra")
    lenient.tick(4)
    rubric.write_text("half of it")
    for i in range(3):
        lenient.drop(f"other{i}.pt", mtime=100 + i)
    lenient.tick(40)
    seen = states(lenient)
    assert {seen[f"other{i}.pt"] for i in range(3)} == {State.DONE}
    waiting = [name for name, state in seen.items() if state in (State.QUEUED, State.SANITIZED)]
    assert len(waiting) >= 5
    (notice,) = lenient.daemon.notices
    assert "rubric 'extra' is wrong" in notice
    assert str(rubric) in notice
    tries = {s.name: s.tries for s in lenient.ledger.in_state((State.QUEUED, State.SANITIZED), -1)}
    assert set(tries.values()) == {0}
    rubric.write_text(whole)
    lenient.drain()
    assert set(states(lenient).values()) == {State.DONE}
    assert lenient.daemon.notices == ()


def test_a_rubric_that_only_its_worker_finds_wrong_waits_until_it_is_changed(lenient: Bench) -> None:
    lenient.outcomes["ada.pt"] = Failed(reason=Reason(code="rubric-error", message="metric.args: no such", blame="operator"))
    lenient.drop("ada.pt", folder="extra")
    lenient.drop("bob.pt")
    lenient.tick(20)
    assert states(lenient) == {"ada.pt": State.SANITIZED, "bob.pt": State.DONE}
    assert lenient.seen.count("MarkTicket ada.pt") == 1  # not again and again
    assert "metric.args: no such" in lenient.daemon.notices[0]
    del lenient.outcomes["ada.pt"]
    rubric = lenient.root / "rubrics/extra/rubric.toml"
    rubric.write_text(rubric.read_text() + "\n# mended\n")
    lenient.drain()
    assert states(lenient)["ada.pt"] is State.DONE
