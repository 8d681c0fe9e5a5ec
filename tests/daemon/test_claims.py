"""What is claimed is what was admitted, though no event has told yet of what happened to it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from daemon_bench import Bench

from fifomark.core.requests import Request
from fifomark.core.states import State
from fifomark.core.submission import EVERYTHING, Look
from fifomark.daemon.control import obey


@pytest.fixture(params=["an event was late", "the daemon has started again"])
def waiting(bench: Bench, request: pytest.FixtureRequest) -> Bench:
    """a.pt and then b.pt wait, and nothing of incoming/ will be looked at any more unless it is asked for."""
    bench.drop("a.pt", mtime=1000.0)
    bench.drop("b.pt", mtime=2000.0)
    bench.ledger.steering.pause("while they are admitted")
    bench.daemon.tick(bench.now, EVERYTHING)
    bench.ledger.steering.pause(None)
    if request.param == "the daemon has started again":
        bench.restart()
    return bench


def blind_turns(bench: Bench) -> None:
    for _ in range(10):
        bench.now += 1
        bench.daemon.tick(bench.now, None)


def test_what_is_being_written_to_is_left_where_it_is(waiting: Bench) -> None:
    with (waiting.root / "incoming/a.pt").open("ab") as writer:
        writer.write(b"more")
        writer.flush()
        blind_turns(waiting)
        assert waiting.ledger.get(1).state is State.QUEUED
        assert waiting.daemon.admitting.unsettled == {("", "a.pt")}
    assert waiting.ledger.get(2).state is State.DONE
    waiting.drain()
    assert waiting.ledger.get(1).state is State.DONE


def _unlink(path: Path) -> None:
    path.unlink()


def _swap(path: Path) -> None:
    path.with_name("new.part").write_bytes(b"another")
    os.utime(path.with_name("new.part"), (3000.0, 3000.0))
    path.with_name("new.part").rename(path)


@pytest.mark.parametrize(
    ("change", "state", "seen"),
    [(_unlink, State.WITHDRAWN, ["b.pt"]), (_swap, State.DONE, ["b.pt", "a.pt"])],
)
def test_what_was_changed_is_taken_as_it_is_now(waiting: Bench, change: Callable[[Path], None], state: State, seen: list[str]) -> None:
    change(waiting.root / "incoming/a.pt")
    blind_turns(waiting)
    assert waiting.ledger.get(1).state is state
    assert [line.split()[1] for line in waiting.seen if line.startswith("Sanitize")] == seen
    assert waiting.ledger.get(2).state is State.DONE


def test_what_keeps_changing_does_not_hold_up_a_turn(bench: Bench) -> None:
    """Each change lets the ledger know of one, and many may have changed at once."""
    for i in range(50):
        bench.drop(f"{i:02d}.pt", mtime=1000.0 + i)
    bench.ledger.steering.pause("while they are admitted")
    bench.daemon.tick(bench.now, EVERYTHING)
    bench.ledger.steering.pause(None)
    for path in (bench.root / "incoming").iterdir():
        path.unlink()
    withdrawn = []
    while bench.daemon.tick(bench.now, None):
        withdrawn.append(bench.ledger.counts()[State.WITHDRAWN])
    assert withdrawn == [8, 16, 24, 32, 40, 48, 50]


def test_a_folder_whose_rubric_has_come_since_is_not_taken_with_everybodys_files(waiting: Bench) -> None:
    (waiting.root / "incoming/new").mkdir()
    (waiting.root / "incoming/new/ada.pt").write_bytes(b"model")
    os.utime(waiting.root / "incoming/new", (500.0, 500.0))
    waiting.ledger.steering.pause("while it is admitted")
    waiting.daemon.tick(waiting.now, EVERYTHING)
    waiting.ledger.steering.pause(None)
    shutil.copytree(waiting.root / "rubrics/digits", waiting.root / "rubrics/new")
    blind_turns(waiting)
    assert (waiting.root / "incoming/new/ada.pt").exists()
    assert waiting.ledger.counts()[State.WITHDRAWN] == 1
    assert waiting.ledger.counts()[State.DONE] == 2
    waiting.restart()  # as a reload: the rubric is known
    waiting.drain()
    assert waiting.seen.count("SanitizeTicket ada.pt") == 1
    assert waiting.ledger.counts()[State.DONE] == 3


def test_what_was_withdrawn_in_the_middle_of_a_look_at_everything_does_not_come_back(bench: Bench) -> None:
    for name in ("a.pt", "b.pt"):
        bench.drop(name)
    bench.ledger.steering.pause("while they are admitted")
    bench.daemon.tick(bench.now, EVERYTHING)
    bench.restart()
    bench.daemon.tick(bench.now, Look(seconds=1e-9))
    assert bench.daemon.admitting.sweeping
    assert all(result.done for result in obey(bench.spool, bench.ledger, Request(verb="withdraw", ids=(1,)), bench.now).results)
    bench.tick()
    assert bench.ledger.counts()[State.WITHDRAWN] == 1
    assert bench.ledger.find(3) is None
