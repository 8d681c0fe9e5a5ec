"""Recovery, cell by cell: every state that a crash can leave × where the file is (docs/recovery.md)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from daemon_bench import UNSAFE, Bench

from fifomark.core.report import decode
from fifomark.core.states import State


class Crash(Exception):
    pass


def crash_when(bench: Bench, what: str, at: int = 1) -> None:
    """Let the `at`-th call of a step of the daemon raise instead of running, as if the machine had stopped there."""
    owner, _, name = what.rpartition(".")
    target = {"ledger": bench.ledger, "spool": bench.spool, "sanitizers": bench.sanitizers, "slots": bench.slots}[owner]
    step: Callable[..., object] = getattr(target, name)
    calls = 0

    def crashing(*args: object, **kwargs: object) -> object:
        nonlocal calls
        calls += 1
        if calls == at:
            raise Crash(what)
        return step(*args, **kwargs)

    setattr(target, name, crashing)


STEPS = [
    (step, at)
    for step in ("spool.place", "spool.sync", "ledger.in_place", "ledger.try_again", "sanitizers.start", "slots.start", "ledger.settle")
    for at in (1, 2, 3, 4)
]


@pytest.mark.parametrize(("step", "at"), STEPS)
def test_a_crash_before_any_step_loses_nothing_and_marks_nothing_twice(bench: Bench, step: str, at: int) -> None:
    bench.bad["eve.pt"] = UNSAFE
    for name, mtime in (("ada.pt", 100), ("eve.pt", 200), ("bob.pt", 300)):
        bench.drop(name, mtime, body=name.encode())
    crash_when(bench, step, at)
    try:
        bench.drain()
    except Crash:
        bench.restart()
        bench.drain()
    assert bench.places("ada.pt") == ["done/00000001-ada.json", "done/00000001-ada.pt", "originals/00000001-ada.pt.original"]
    assert bench.places("eve.pt") == ["rejected/00000002-eve.json", "rejected/00000002-eve.pt.quarantined"]
    assert bench.places("bob.pt") == ["done/00000003-bob.json", "done/00000003-bob.pt", "originals/00000003-bob.pt.original"]
    for id, name in ((1, "ada"), (3, "bob")):
        report = decode((bench.root / f"done/{id:08d}-{name}.json").read_bytes())
        assert [step.state for step in report.timeline].count(State.DONE) == 1
        assert (bench.root / f"originals/{id:08d}-{name}.pt.original").read_bytes() == f"{name}.pt".encode()
    assert not any(row.moving for row in bench.ledger.unfinished())


def test_a_claim_whose_file_was_moved_is_sanitized_again(bench: Bench) -> None:
    bench.drop("ada.pt")
    bench.tick()
    assert bench.ledger.get(1).state is State.SANITIZING
    bench.restart()
    bench.drain()
    assert bench.ledger.get(1).state is State.DONE


def test_a_new_file_under_a_claimed_name_is_another_submission(bench: Bench) -> None:
    bench.drop("ada.pt", body=b"first")
    crash_when(bench, "ledger.in_place")
    with pytest.raises(Crash):
        bench.drain()
    bench.drop("ada.pt", body=b"second")
    bench.restart()
    bench.drain()
    assert (bench.root / "originals/00000001-ada.pt.original").read_bytes() == b"first"
    assert (bench.root / "originals/00000002-ada.pt.original").read_bytes() == b"second"


def test_an_evaluation_that_was_interrupted_starts_again_and_only_so_often(bench: Bench) -> None:
    bench.drop("ada.pt")
    bench.slots.collect = lambda now: []  # type: ignore[method-assign,assignment]
    for _ in range(2):
        bench.tick(5)
        assert bench.ledger.get(1).state is State.EVALUATING
        bench.restart()
        bench.slots.collect = lambda now: []  # type: ignore[method-assign,assignment]
    assert bench.ledger.get(1).tries == 2
    bench.tick(5)
    bench.restart()
    assert bench.ledger.get(1).state is State.FAILED
    assert (bench.root / "failed/00000001-ada.json").exists()


def test_what_a_stopped_daemon_had_in_hand_is_put_back_uncounted(bench: Bench) -> None:
    bench.drop("ada.pt")
    bench.slots.collect = lambda now: []  # type: ignore[method-assign,assignment]
    bench.tick(5)
    bench.daemon.release(bench.now)
    assert (bench.ledger.get(1).state, bench.ledger.get(1).tries) == (State.SANITIZED, 0)
    bench.restart()
    bench.drain()
    assert bench.ledger.get(1).state is State.DONE


def test_what_a_killed_writer_left_half_written_is_removed_at_the_next_start(bench: Bench) -> None:
    half = bench.root / "evaluating" / ".00000001-ada.pt.1a2b.tmp"
    half.write_bytes(b"half")
    (bench.root / "evaluating" / "not-ours.txt").write_text("kept")
    bench.restart()
    assert not half.exists()
    assert (bench.root / "evaluating" / "not-ours.txt").exists()
