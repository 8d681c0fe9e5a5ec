"""isolation = "batch": a sanitizer is handed several submissions at once."""

from __future__ import annotations

from pathlib import Path

import pytest
from daemon_bench import Bench

from fifomark.core.outcome import Lost
from fifomark.core.states import State
from fifomark.daemon.daemon import BATCH


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
    for i in range(BATCH + 4):
        bench.drop(f"{i:02d}.pt", mtime=1000.0 + i)
    bench.drain()
    assert handed == [list(range(1, BATCH + 1)), list(range(BATCH + 1, BATCH + 5))]
    assert bench.ledger.counts()[State.DONE] == BATCH + 4


def test_what_took_its_sanitizer_down_is_tried_again_alone_and_the_others_pass(bench: Bench) -> None:
    handed = batches(bench)
    names = ["a.pt", "lost-in-sanitizing.pt", "z.pt"]
    bench.outcomes["lost-in-sanitizing.pt"] = Lost(how="killed by SIGKILL")
    for i, name in enumerate(names):
        bench.drop(name, mtime=1000.0 + i)
    bench.drain()
    assert handed == [[1, 2, 3], [2], [2]]
    assert [bench.ledger.get(id).state for id in (1, 2, 3)] == [State.DONE, State.FAILED, State.DONE]
