"""What is claimed is what was admitted, though no event has told yet of what happened to it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from daemon_bench import Bench

from fifomark.core.states import State
from fifomark.core.submission import EVERYTHING


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
