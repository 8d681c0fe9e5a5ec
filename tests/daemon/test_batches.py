"""isolation = "batch": a sanitizer is handed several submissions at once."""

from __future__ import annotations

from pathlib import Path

import pytest
from daemon_bench import Bench

from fifomark.core.outcome import Lost
from fifomark.core.states import State
from fifomark.daemon.sanitize_queue import SMALL
from fifomark.sanitizer.batch import MAX_FILES


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    bench = Bench(tmp_path / "spool", slots=8)
    settings = tmp_path / "spool" / "fifomark.toml"
    settings.write_text(settings.read_text().replace('isolation = "submission"', 'isolation = "batch"'))
    bench.restart()
    return bench


def batches(bench: Bench) -> list[list[int]]:
    """The ids that the sanitizer was handed, call by call, from here on."""
    handed: list[list[int]] = []
    start = bench.sanitizers.start
    bench.sanitizers.start = lambda tickets, *rest: (handed.append([t.submission for t in tickets]), start(tickets, *rest))[1]  # type: ignore[method-assign]
    return handed


def test_a_backlog_is_sanitized_in_batches_in_order(bench: Bench) -> None:
    handed = batches(bench)
    for i in range(MAX_FILES + 4):
        bench.drop(f"{i:03d}.pt", mtime=1000.0 + i)
    bench.drain()
    assert handed == [list(range(1, MAX_FILES + 1)), list(range(MAX_FILES + 1, MAX_FILES + 5))]
    assert bench.ledger.counts()[State.DONE] == MAX_FILES + 4


def test_what_took_its_sanitizer_down_is_tried_again_alone_and_the_others_pass(bench: Bench) -> None:
    handed = batches(bench)
    names = ["a.pt", "lost-in-sanitizing.pt", "z.pt"]
    bench.outcomes["lost-in-sanitizing.pt"] = Lost(how="killed by SIGKILL")
    for i, name in enumerate(names):
        bench.drop(name, mtime=1000.0 + i)
    bench.drain()
    assert handed == [[1, 2, 3], [2], [2]]
    assert [bench.ledger.get(id).state for id in (1, 2, 3)] == [State.DONE, State.FAILED, State.DONE]


@pytest.fixture
def alone(tmp_path: Path) -> Bench:
    """isolation = "submission", with a sanitizer that has one in hand and takes what lies ready."""
    bench = Bench(tmp_path / "spool", slots=8)
    sanitizer = bench.sanitizers.slots()[0].slot
    bench.sanitizers.free = lambda: []  # type: ignore[method-assign]
    bench.sanitizers.ahead = lambda now: [(sanitizer, 2)]  # type: ignore[method-assign]
    return bench


def test_where_none_share_a_child_small_ones_lie_ready_in_order(alone: Bench) -> None:
    handed: list[int] = []
    alone.sanitizers.start = lambda tickets, *rest: handed.extend(t.submission for t in tickets)  # type: ignore[method-assign]
    for i in range(9):
        alone.drop(f"{i}.pt", mtime=1000.0 + i, body=b"x" * (SMALL + 1) if i == 4 else b"x")
    alone.tick(4)
    assert handed == [1, 2, 3, 4]  # the large one waits until a sanitizer is free
    assert [alone.ledger.get(id).tries for id in (4, 5)] == [1, 0]


def test_a_sanitizer_that_has_nothing_to_do_takes_one_large_file_or_several_small_ones(alone: Bench) -> None:
    handed: list[list[int]] = []
    alone.sanitizers.start = lambda tickets, *rest: handed.append([t.submission for t in tickets])  # type: ignore[method-assign]
    sanitizer = alone.sanitizers.slots()[0].slot
    alone.sanitizers.ahead = lambda now: []  # type: ignore[method-assign]
    alone.sanitizers.free = alone.sanitizers.warm = lambda: [sanitizer]  # type: ignore[method-assign]
    for i in range(30):
        alone.drop(f"{i:02}.pt", mtime=1000.0 + i, body=b"x" * (SMALL + 1) if i in (9, 11) else b"x")
    alone.tick(6)
    assert handed[:3] == [list(range(1, 10)), [10], [11]]


def test_what_lies_ready_before_a_slow_sanitizer_is_taken_back_to_the_front(alone: Bench) -> None:
    handed: list[list[int]] = []
    alone.sanitizers.start = lambda tickets, *rest: handed.append([t.submission for t in tickets])  # type: ignore[method-assign]
    for i in range(9):
        alone.drop(f"{i}.pt", mtime=1000.0 + i)
    alone.tick(2)
    alone.sanitizers.take_back = lambda now, everything: [2, 3]  # type: ignore[method-assign,assignment]
    handed.clear()
    alone.tick()
    assert handed[0][:2] == [2, 3]
    assert alone.ledger.get(2).tries == 1


def test_those_that_were_lost_together_are_tried_again_in_order(bench: Bench) -> None:
    names = ["lost-in-sanitizing-1.pt", "lost-in-sanitizing-2.pt", "lost-in-sanitizing-3.pt"]
    for i, name in enumerate(names):
        bench.outcomes[name] = Lost(how="killed by SIGKILL")
        bench.drop(name, mtime=1000.0 + i)
    handed = batches(bench)
    bench.drain()
    assert handed == [[1, 2, 3], [1], [1], [2], [2], [3], [3]]
