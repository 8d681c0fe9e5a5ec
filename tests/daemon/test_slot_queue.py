"""Slots of different memory under a real daemon: who goes where, who waits, and what never can."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import pytest
from daemon_bench import EVALUATION, Bench
from msgspec.structs import replace

from fifomark.core.errors import ConfigError
from fifomark.core.outcome import Cost, Lost, Marked, Ticket
from fifomark.core.report import decode
from fifomark.core.states import State
from fifomark.core.submission import Submission
from fifomark.daemon.service import spool_slots
from fifomark.spool.spool import Spool
from fifomark.workers.pool import SHORT_SECONDS, Ended, SlotState
from fifomark.workers.slots import Slot

GIB = 1 << 30
SMALL = Slot(name="small", device="cpu", visible="", memory_bytes=1 * GIB)
LARGE = Slot(name="large", device="cpu", visible="", memory_bytes=8 * GIB)


class Mixed(Bench):
    """A bench whose clean files are as large as their names say: "3-ada.pt" takes 3 GiB. Nothing ends before `finish`."""

    def __init__(self, root: Path, slots: Sequence[Slot] = (SMALL, LARGE)) -> None:
        super().__init__(root)
        self._slots = list(slots)
        self.restart()

    def start(self) -> None:
        super().start()
        self.spool.clean_bytes = self.clean_bytes  # type: ignore[method-assign]
        self.finish, self.slots.collect = self.slots.collect, lambda now: []  # type: ignore[method-assign]

    def clean_bytes(self, submission: Submission) -> int:
        return int(submission.name.split("-")[0]) * GIB

    @property
    def running(self) -> dict[str, str]:
        """By slot, the name of what runs there."""
        return {str(row.slot): row.name for row in self.ledger.in_state((State.EVALUATING,), -1)}

    def end_all(self) -> None:
        """What runs comes to its end at the next tick, and what starts then runs on."""
        finish = self.finish

        def once(now: float) -> object:
            self.slots.collect = lambda now: []  # type: ignore[method-assign]
            return finish(now)

        self.slots.collect = once  # type: ignore[method-assign,assignment]


@pytest.fixture
def mixed(tmp_path: Path) -> Mixed:
    return Mixed(tmp_path / "spool")


def dropped(bench: Bench, *names: str) -> None:
    for i, name in enumerate(names):
        bench.drop(name, 100 + i)


def test_what_needs_more_memory_waits_for_the_slot_that_has_it_and_others_go_on(mixed: Mixed) -> None:
    dropped(mixed, "3-ada.pt", "3-bob.pt", "0-cem.pt", "0-dan.pt")
    mixed.tick(8)
    assert mixed.running == {"large": "3-ada.pt", "small": "0-cem.pt"}


def test_it_has_that_slot_next_however_many_small_ones_wait(mixed: Mixed) -> None:
    dropped(mixed, "3-ada.pt", "3-bob.pt", *(f"0-small{i}.pt" for i in range(6)))
    mixed.tick(10)
    mixed.end_all()
    mixed.tick()
    assert mixed.running["large"] == "3-bob.pt"


def test_what_no_slot_has_the_memory_for_fails_at_once_as_the_operators_and_costs_no_attempt(mixed: Mixed) -> None:
    dropped(mixed, "9-ada.pt", "0-bob.pt")
    mixed.tick(6)
    reason = decode((mixed.root / "failed/00000001-9-ada.json").read_bytes()).reason
    assert (reason.code, reason.blame) == ("no-slot", "operator")
    assert reason.message == "it needs 18688 MiB of memory, and no slot has more than 8192 (docs/slots.md)"
    assert (mixed.root / "failed/00000001-9-ada.pt").exists()
    assert mixed.running == {"small": "0-bob.pt"}
    assert mixed.ledger.attempts.used("digits", "9-ada", ("done", "rejected", "limit-exceeded")) == 0


def test_a_rubric_that_wants_a_gpu_where_there_is_none_stops_the_marking_and_is_named(mixed: Mixed) -> None:
    rubric = mixed.root / "rubrics/digits/rubric.toml"
    rubric.write_text(rubric.read_text().replace('device     = "auto"', 'device = "cuda"'))
    dropped(mixed, "0-ada.pt")
    with pytest.raises(ConfigError, match=r"rubric\.toml: run\.device: is cuda, but no slot is a GPU"):
        mixed.tick(6)


def test_what_was_lost_on_one_slot_is_tried_on_the_other(mixed: Mixed) -> None:
    mixed.outcomes["0-ada.pt"] = Lost(how="killed by SIGSEGV")
    dropped(mixed, "0-ada.pt")
    mixed.tick(4)
    assert mixed.running == {"small": "0-ada.pt"}
    mixed.end_all()
    mixed.tick()
    assert mixed.running == {"large": "0-ada.pt"}


def test_while_a_slot_is_free_that_none_can_run_on_more_is_sanitized_but_not_without_end(mixed: Mixed) -> None:
    dropped(mixed, *(f"3-large{i:03}.pt" for i in range(140)), "0-small.pt")
    mixed.tick(2 * 9)
    assert mixed.ledger.counts()[State.SANITIZED] > 2 * 4
    mixed.tick(2 * 140)
    assert mixed.ledger.counts()[State.SANITIZED] == 2 * 64
    assert mixed.ledger.counts()[State.QUEUED] == 141 - 1 - 2 * 64


def test_a_small_one_behind_many_large_ones_reaches_the_free_slot(mixed: Mixed) -> None:
    dropped(mixed, *(f"3-large{i:03}.pt" for i in range(20)), "0-small.pt")
    mixed.tick(2 * 23)
    assert mixed.running == {"large": "3-large000.pt", "small": "0-small.pt"}


def test_where_all_slots_are_at_work_little_is_sanitized_ahead(mixed: Mixed) -> None:
    dropped(mixed, *(f"0-small{i:03}.pt" for i in range(30)))
    mixed.tick(60)
    assert mixed.ledger.counts()[State.SANITIZED] <= 2 * 4


def test_what_waits_for_a_slot_that_is_out_of_service_is_told_once_nothing_else_goes_on(mixed: Mixed) -> None:
    dropped(mixed, "3-ada.pt", "0-bob.pt")
    mixed.slots.free = lambda: [SMALL]  # type: ignore[method-assign]
    states = [SlotState(SMALL, "busy", 2, None), SlotState(LARGE, "out of service", None, "NVML says of its GPU: lost")]
    mixed.slots.slots = lambda: states  # type: ignore[method-assign]
    mixed.tick(6)
    assert mixed.ledger.get(1).state is State.SANITIZED  # not failed: the slot may be mended
    assert mixed.daemon.blocked is None
    mixed.end_all()
    states[0] = SlotState(SMALL, "free", None, None)
    mixed.tick(3)
    assert mixed.ledger.get(2).state is State.DONE
    assert mixed.daemon.blocked == "large: NVML says of its GPU: lost"
    mixed.slots.free = lambda: [SMALL, LARGE]  # type: ignore[method-assign]
    states[1] = SlotState(LARGE, "free", None, None)
    mixed.tick()
    assert mixed.daemon.blocked is None
    assert mixed.running == {"large": "3-ada.pt"}


def test_a_slots_memory_is_the_most_that_marking_may_take_there(mixed: Mixed) -> None:
    given: dict[str, int | None] = {}
    start = mixed.slots.start

    def noted(tickets: object, slot: Slot, bounds: object, now: float) -> None:
        given[slot.name] = bounds.memory_bytes  # type: ignore[attr-defined]
        start(tickets, slot, bounds, now)  # type: ignore[arg-type]

    mixed.slots.start = noted  # type: ignore[method-assign,assignment]
    dropped(mixed, "0-ada.pt", "0-bob.pt")
    mixed.tick(5)
    assert given == {"small": 1 * GIB, "large": 8 * GIB}


def test_the_settings_say_what_memory_slots_of_the_cpu_have(mixed: Mixed) -> None:
    settings = mixed.root / "fifomark.toml"
    settings.write_text(settings.read_text().replace('slots = "auto"', 'slots = ["cpu", "cpu:2"]\ncpu_memory_mib = 3000'))
    assert [(slot.name, slot.memory_bytes) for slot in spool_slots(Spool(mixed.root))] == [("cpu", 3000 << 20), ("cpu:2", 3000 << 20)]


def test_slots_that_cannot_be_had_are_named_with_the_file_and_the_entry(mixed: Mixed) -> None:
    settings = mixed.root / "fifomark.toml"
    settings.write_text(settings.read_text().replace('slots = "auto"', 'slots = ["cpu", "gpu"]'))
    with pytest.raises(ConfigError, match=r"fifomark\.toml: slots\[1\]: 'gpu' is no slot"):
        spool_slots(Spool(mixed.root))


@pytest.mark.parametrize("seed", range(5))
def test_no_turn_passes_anyone_over_for_a_slot_that_they_could_have(tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    middle = Slot(name="middle", device="cpu", visible="", memory_bytes=4 * GIB)
    mixed = Mixed(tmp_path / "spool", [SMALL, LARGE, middle])
    memory = {slot.name: slot.memory_bytes or 0 for slot in (SMALL, LARGE, middle)}
    names = [f"{draw.choice([0, 0, 1, 3])}-{i:02}.pt" for i in range(24)]
    dropped(mixed, *names)
    started: list[str] = []
    while len(started) < len(names):
        ready = {row.name for row in mixed.ledger.in_state((State.SANITIZED,), -1) if not row.moving}
        if draw.random() < 0.4:
            mixed.end_all()
        mixed.tick()
        fresh = [(slot, name) for slot, name in mixed.running.items() if name not in started]
        left = ready - set(mixed.running.values())
        for slot, name in fresh:
            could = {other for other in left if 2 * int(other[0]) * GIB + (256 << 20) <= memory[slot]}
            assert all(names.index(other) > names.index(name) for other in could), (name, slot, could)
        started += [name for _, name in fresh]
        assert mixed.now < 4_000_000_000.0 + 500, "somebody starves"


def quick(mixed: Mixed, ahead: dict[Slot, int], seconds: float = 0.01) -> list[tuple[str, str]]:
    """From here on the slots are quick, and take what lies ready: (slot, name) in the order in which they are started."""
    started: list[tuple[str, str]] = []

    def start(tickets: Sequence[Ticket], slot: Slot, bounds: object, now: float) -> None:
        started.extend((slot.name, mixed.ledger.get(ticket.submission).name) for ticket in tickets)
        if slot in ahead:
            ahead[slot] += 1

    mixed.slots.start = start  # type: ignore[method-assign,assignment]
    mixed.slots.free = lambda: []  # type: ignore[method-assign]
    mixed.slots.ahead = lambda now: list(ahead.items())  # type: ignore[method-assign]
    sha256 = mixed.daemon.rubrics["digits"][1]
    evaluation = replace(EVALUATION, rubric_sha256=sha256, cost=Cost(forward_seconds=0.0, total_seconds=seconds))
    mixed.daemon._for_slots.learn([Ended(0, SMALL, Marked(evaluation=evaluation))])
    return started


def test_what_is_next_lies_ready_before_quick_workers_in_line_and_evenly(mixed: Mixed) -> None:
    dropped(mixed, *(f"0-{i:02}.pt" for i in range(30)))
    ahead = {SMALL: 3, LARGE: 0}
    started = quick(mixed, ahead)
    mixed.tick(60)
    assert [name for _, name in started] == [f"0-{i:02}.pt" for i in range(17)]
    assert [slot for slot, _ in started[:5]] == ["large"] * 3 + ["small", "large"]
    assert ahead == {SMALL: 10, LARGE: 10}  # of 0.01 seconds each


def test_before_a_quick_worker_that_has_nothing_to_do_more_than_one_is_laid_at_once(mixed: Mixed) -> None:
    dropped(mixed, *(f"0-{i:02}.pt" for i in range(30)))
    started = quick(mixed, {})
    mixed.tick(40)
    mixed.slots.free = lambda: [SMALL, LARGE]  # type: ignore[method-assign]
    mixed.slots.warm = lambda: [LARGE]  # type: ignore[method-assign]
    mixed.tick()
    assert started == [("small", "0-00.pt"), *(("large", f"0-{i:02}.pt") for i in range(1, 12))]


def test_how_many_may_wait_goes_by_the_slowest_rubric_that_waits(mixed: Mixed) -> None:
    quick(mixed, {})
    queue, rubrics = mixed.daemon._for_slots, mixed.daemon.rubrics
    rubrics["never marked"] = (rubrics["digits"][0], "0" * 64)
    rooms = []
    for waiting in (["digits"], ["digits", "never marked"], ["gone"]):
        mixed.ledger.rubrics_before_slots = lambda waiting=waiting: waiting  # type: ignore[method-assign,misc]
        rooms.append(queue.room)
    assert rooms == [2 * 100, 2 * 4, 2 * 4]  # in a second, of 0.01 seconds each


@pytest.mark.parametrize("seconds", [0.2, 10.0])
def test_nothing_lies_ready_where_each_takes_its_time(mixed: Mixed, seconds: float) -> None:
    dropped(mixed, "0-ada.pt")
    started = quick(mixed, {SMALL: 0, LARGE: 0}, seconds)
    mixed.tick(3)
    assert started == []


def test_nobody_overtakes_by_lying_ready(mixed: Mixed) -> None:
    dropped(mixed, "3-large.pt", "0-small.pt")
    started = quick(mixed, {SMALL: 0})
    mixed.tick(6)
    assert started == []  # the large one can only go to the other slot


def test_who_is_passed_over_for_a_small_slot_comes_first_for_the_large_one(mixed: Mixed) -> None:
    dropped(mixed, "3-large.pt", *(f"0-{i}.pt" for i in range(3)))
    started = quick(mixed, {})
    mixed.tick(6)
    mixed.slots.free = lambda: [SMALL]  # type: ignore[method-assign]
    mixed.slots.ahead = lambda now: [(LARGE, 0)]  # type: ignore[method-assign]
    mixed.tick()
    assert started[:2] == [("small", "0-0.pt"), ("large", "3-large.pt")]


def test_what_was_tried_before_does_not_lie_ready(mixed: Mixed) -> None:
    dropped(mixed, "0-ada.pt", "0-bob.pt")
    started = quick(mixed, {})
    mixed.tick(4)
    mixed.ledger.try_again(1)
    mixed.slots.ahead = lambda now: [(SMALL, 0)]  # type: ignore[method-assign]
    mixed.tick(2)
    assert started == []


def test_what_is_taken_back_waits_in_its_place_as_if_it_had_never_been_started(mixed: Mixed) -> None:
    dropped(mixed, *(f"0-{i}.pt" for i in range(4)))
    quick(mixed, {SMALL: 0, LARGE: 0})
    mixed.tick(8)
    assert mixed.ledger.counts()[State.EVALUATING] == 4
    mixed.slots.ahead = lambda now: []  # type: ignore[method-assign]
    mixed.slots.take_back = lambda now, everything: [] if everything else [2, 3]  # type: ignore[method-assign,assignment]
    mixed.tick()
    assert [(row.id, row.slot, row.tries) for row in mixed.ledger.ready_for_slots()] == [(2, None, 0), (3, None, 0)]
    (spent,) = {row.seconds for row in mixed.ledger.durations.all() if row.state is State.EVALUATING}
    assert spent == 0.0


@pytest.mark.parametrize("stop", ["closing", "paused"])
def test_what_is_not_begun_is_taken_back_when_nothing_more_is_to_start(mixed: Mixed, stop: str) -> None:
    asked: list[tuple[str, bool]] = []
    for name, pool in (("slots", mixed.slots), ("sanitizers", mixed.sanitizers)):
        pool.take_back = lambda now, everything, name=name: asked.append((name, everything)) or []  # type: ignore[method-assign,func-returns-value,misc]
    mixed.tick()
    assert dict(asked) == {"slots": False, "sanitizers": False}
    if stop == "closing":
        mixed.daemon.closing = True
    else:
        with mixed.ledger.batch():
            mixed.ledger.steering.pause("tonight")
    mixed.tick()
    assert dict(asked) == {"slots": True, "sanitizers": stop == "closing"}  # what was claimed is sanitized in a pause too


def test_the_daemon_may_look_away_where_all_slots_or_all_sanitizers_have_enough_to_do(mixed: Mixed) -> None:
    daemon, now = mixed.daemon, mixed.now
    assert not daemon.supplied(now)
    mixed.slots.ahead = lambda now: [(SMALL, 2), (LARGE, 2)]  # type: ignore[method-assign]
    assert daemon.supplied(now)
    assert daemon.patience(now) == SHORT_SECONDS
    for ahead in ([(SMALL, 2)], [(SMALL, 2), (LARGE, 1)], []):
        mixed.slots.ahead = lambda now, ahead=ahead: ahead  # type: ignore[method-assign,misc]
        assert not daemon.supplied(now)
    mixed.sanitizers.ahead = lambda now: [(mixed.sanitizers.slots()[0].slot, 2)]  # type: ignore[method-assign]
    assert daemon.supplied(now)


def test_a_slot_that_starts_takes_nothing_before_it_is_ready_and_wakes_the_daemon_then(mixed: Mixed) -> None:
    mixed.slots.slots = lambda: [SlotState(SMALL, "starting", 1, None), SlotState(LARGE, "busy", 2, None)]  # type: ignore[method-assign]
    mixed.slots.ahead = lambda now: [(LARGE, 2)]  # type: ignore[method-assign]
    assert mixed.daemon.supplied(mixed.now)
    mixed.slots.slots = lambda: [SlotState(SMALL, "starting", 1, None), SlotState(LARGE, "starting", 2, None)]  # type: ignore[method-assign]
    mixed.slots.ahead = lambda now: []  # type: ignore[method-assign]
    assert not mixed.daemon.supplied(mixed.now)


def test_time_on_a_slot_is_counted_from_when_its_worker_came_to_it(mixed: Mixed) -> None:
    dropped(mixed, "0-ada.pt")
    mixed.tick(3)
    assert mixed.running == {"small": "0-ada.pt"}
    mixed.now += 1000
    (ended,) = mixed.finish(mixed.now)
    mixed.slots.collect = lambda now: [ended._replace(began=now - 7)]  # type: ignore[method-assign]
    mixed.tick()
    spent = [(row.slot, row.times, round(row.seconds, 3)) for row in mixed.ledger.durations.all() if row.state is State.EVALUATING]
    assert spent == [("small", 1, 7.0)]
