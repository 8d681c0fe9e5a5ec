"""What Prometheus reads is what the spool is: read back with Prometheus' own parser."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from daemon_bench import UNSAFE, Bench
from prometheus_client.parser import text_string_to_metric_families

from fifomark.core.measured import Measured, Stage
from fifomark.core.outcome import Lost
from fifomark.core.status import DaemonStatus, SlotStatus
from fifomark.daemon.measuring import measure
from fifomark.ledger.history import Move
from fifomark.reports.prometheus import render
from fifomark.spool.lock import Holder, announce, held

Read = dict[tuple[str, str], float]  # (name, the label that is not the spool's) → value


def read(text: str) -> tuple[Read, dict[str, str], set[str]]:
    values: Read = {}
    kinds: dict[str, str] = {}
    spools: set[str] = set()
    for family in text_string_to_metric_families(text):
        kinds[family.name] = family.type
        assert family.documentation
        for sample in family.samples:
            labels = dict(sample.labels)
            spools.add(labels.pop("spool"))
            values[sample.name, ",".join(labels.values())] = sample.value
    return values, kinds, spools


def _next(move: Move, moves: list[Move]) -> Move | None:
    return next((later for later in moves if later.number > move.number and later.submission == move.submission), None)


def test_queue_states_and_durations_are_the_ledgers(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "spool")
    bench.bad["eve.pt"] = UNSAFE
    bench.outcomes["lost.pt"] = Lost(how="killed by SIGKILL")
    for name in ("ada.pt", "eve.pt", "lost.pt"):
        bench.drop(name)
    bench.drain()
    bench.ledger.steering.pause("by the test")
    bench.drop("bob.pt")
    bench.tick()
    values, kinds, spools = read(render(measure(bench.root, bench.now + 100)))
    assert spools == {str(bench.root)}
    assert (values["fifomark_up", ""], values["fifomark_queue_length", ""]) == (0, 1)
    assert values["fifomark_oldest_waiting_seconds", ""] == 100
    assert {state: values["fifomark_submissions", state] for state in ("done", "rejected", "failed", "queued", "held")} == {
        "done": 1, "rejected": 1, "failed": 1, "queued": 1, "held": 0,
    }  # fmt: skip
    moves = list(bench.ledger.history.after(0))
    for state in ("queued", "sanitizing", "sanitized", "evaluating"):
        stays = [nxt.at - move.at for move in moves if move.state == state and (nxt := _next(move, moves)) is not None]
        assert values["fifomark_state_seconds_count", state] == len(stays) > 0
        assert values["fifomark_state_seconds_sum", state] == pytest.approx(sum(stays))
    assert values["fifomark_state_seconds_count", "evaluating"] == 4  # ada's, and three tries of what was lost
    assert values["fifomark_slot_busy_seconds_total", "cpu:0"] == values["fifomark_state_seconds_sum", "evaluating"]
    assert kinds["fifomark_slot_busy_seconds"] == "counter"
    assert kinds["fifomark_state_seconds"] == "summary"
    assert values["fifomark_disk_free_bytes", ""] < values["fifomark_disk_size_bytes", ""]
    assert values["fifomark_paused", ""] == 1
    bench.ledger.close()


def test_a_slot_that_is_marking_is_busy_all_the_while(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "spool")
    bench.drop("ada.pt")
    bench.slots.collect = lambda now: []  # type: ignore[method-assign,assignment]
    bench.tick(5)
    began = next(move.at for move in bench.ledger.history.after(0) if move.state == "evaluating")
    started = datetime(2026, 1, 1, tzinfo=UTC)
    daemon = DaemonStatus(pid=1, host="h", mode="serve", started_at=started, version="9")
    slots = (SlotStatus(name="cpu:0", state="busy", submission=1), SlotStatus(name="cpu:1", state="out of service", submission=None))
    with held(bench.spool.layout):
        announce(bench.spool.layout, Holder(daemon=daemon, slots=slots, broken={"x": "y"}))
        values, _, _ = read(render(measure(bench.root, began + 50)))
    assert values["fifomark_slot_busy_seconds_total", "cpu:0"] == pytest.approx(50)
    assert [values["fifomark_slot_busy", f"cpu:{i}"] for i in (0, 1)] == [1, 0]
    assert [values["fifomark_slot_in_service", f"cpu:{i}"] for i in (0, 1)] == [1, 0]
    assert (values["fifomark_up", ""], values["fifomark_start_time_seconds", ""]) == (1, started.timestamp())
    assert values["fifomark_build_info", "9"] == 1
    assert values["fifomark_broken_rubrics", ""] == 1
    bench.ledger.close()


def test_labels_of_any_text_are_read_back_as_they_are() -> None:
    strange = 'a "quoted" \\ path\nwith a line'
    seen = Measured(
        spool=strange, started_at=None, version="1", states={}, slots={}, waiting=0, oldest_seconds=0.0,
        stages=(Stage(state="queued", times=2, seconds=0.1 + 0.2),), busy_seconds={}, disk_free_bytes=1, disk_size_bytes=1 << 60,
        short_of_space=True, paused=False, broken_rubrics=0,
    )  # fmt: skip
    values, _, spools = read(render(seen))
    assert spools == {strange}
    assert values["fifomark_state_seconds_sum", "queued"] == 0.1 + 0.2
    assert values["fifomark_disk_size_bytes", ""] == 1 << 60
