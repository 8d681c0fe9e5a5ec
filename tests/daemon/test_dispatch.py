"""The rule of choice by itself: who fits where, and that nobody is passed over."""

from __future__ import annotations

from itertools import islice

import msgspec
import pytest
from fairness import (
    GIB,
    LEAST,
    MIXES,
    Job,
    Measured,
    Mix,
    Worked,
    idle_beside_work,
    jobs_of,
    measure,
    overtaken,
    passed_over,
    simulate,
    slot,
    soonest,
)
from hypothesis import given
from hypothesis import strategies as st

from fifomark.core.outcome import Lost, Refused
from fifomark.core.policy import Limits
from fifomark.daemon.dispatch import Dispatch, Need, bounds, fits, need
from fifomark.marking.schema import Rubric
from fifomark.workers.pool import Bounds, Ended
from fifomark.workers.slots import Slot

SMALL = Slot(name="small", device="cuda", visible="0", memory_bytes=8 * GIB)
LARGE = Slot(name="large", device="cuda", visible="1", memory_bytes=24 * GIB)
UNKNOWN = Slot(name="unknown", device="cuda", visible="2")
CPU = Slot(name="cpu", device="cpu", visible="", memory_bytes=4 * GIB)


def rubric(**tables: object) -> Rubric:
    least = {
        "rubric": {"schema": "fifomark.rubric/1", "id": "r"},
        "task": {"type": "regression"},
        "model": {},
        "input": {"shape": [4]},
        "data": {"path": "d"},
    }
    return msgspec.convert(least | tables, Rubric)


def chosen(dispatch: Dispatch, needs: list[Need], slots: list[Slot], serving: list[Slot] | None = None) -> list[tuple[int, str]]:
    return [(id, slot.name) for id, slot in dispatch.choose(enumerate(needs), slots, serving or slots)]


# What is needed, and what may be taken


def test_a_rubric_that_says_what_memory_it_gives_is_taken_at_its_word() -> None:
    assert need(rubric(limits={"memory_mib": 2048}), 1 << 40) == Need(2 * GIB)


def test_without_a_word_the_weights_are_wanted_twice_and_torch_once() -> None:
    assert need(rubric(), 3 * GIB) == Need(6 * GIB + (256 << 20))


def test_what_marking_may_cost_is_said_by_the_rubric_or_else_the_settings() -> None:
    limits = Limits(mark_seconds=300, mark_memory_bytes=8 * GIB, mark_cpu_seconds=100)
    assert bounds(rubric(), limits, LARGE) == Bounds(300, 8 * GIB, 100)
    own = rubric(limits={"wall_seconds": 20, "cpu_seconds": 10, "memory_mib": 1024})
    assert bounds(own, limits, LARGE) == Bounds(20, GIB, 10)


def test_nobody_may_take_more_than_a_slot_of_the_cpu_has() -> None:
    assert bounds(rubric(), Limits(), CPU).memory_bytes == 4 * GIB


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        (Need(8 * GIB), ["small", "large", "unknown"]),
        (Need(8 * GIB + 1), ["large", "unknown"]),
        (Need(GIB, "cuda"), ["small", "large", "unknown"]),
        (Need(GIB, "cpu"), ["small", "large", "unknown", "cpu"]),
        (Need(99 * GIB, "cpu"), ["small", "large", "unknown"]),  # the machine's memory, of which a GPU's slot says nothing
    ],
)
def test_who_fits_where(wanted: Need, names: list[str]) -> None:
    assert [slot.name for slot in (SMALL, LARGE, UNKNOWN, CPU) if fits(wanted, slot)] == names


# Who starts where


def test_the_earliest_takes_the_first_slot_that_will_do() -> None:
    assert chosen(Dispatch(), [Need(GIB), Need(9 * GIB), Need(GIB)], [SMALL, LARGE]) == [(0, "small"), (1, "large")]


def test_what_needs_a_large_slot_is_overtaken_on_small_ones_only() -> None:
    assert chosen(Dispatch(), [Need(9 * GIB), Need(GIB)], [SMALL]) == [(1, "small")]
    assert chosen(Dispatch(), [Need(9 * GIB), Need(GIB)], [LARGE]) == [(0, "large")]


def test_what_wants_the_cpu_leaves_the_gpu_to_others() -> None:
    assert chosen(Dispatch(), [Need(GIB, "cpu"), Need(GIB)], [SMALL, CPU]) == [(0, "cpu"), (1, "small")]


def test_nobody_is_looked_at_once_no_slot_is_free() -> None:
    def waiting() -> object:
        yield 1, Need(GIB)
        raise AssertionError("the second was looked at")

    assert len(list(Dispatch().choose(waiting(), [SMALL], [SMALL]))) == 1  # type: ignore[arg-type]


def test_what_was_lost_is_tried_elsewhere_while_there_is_an_elsewhere() -> None:
    dispatch = Dispatch()
    dispatch.learn([Ended(0, SMALL, Lost(how="killed"))])
    assert chosen(dispatch, [Need(GIB)], [SMALL], [SMALL, LARGE]) == []  # it waits for the other
    assert chosen(dispatch, [Need(GIB)], [SMALL, LARGE]) == [(0, "large")]
    assert chosen(dispatch, [Need(GIB)], [SMALL], [SMALL]) == [(0, "small")]  # the other is out of service
    assert chosen(dispatch, [Need(GIB, "cpu")], [SMALL], [SMALL, LARGE]) == []
    dispatch.learn([Ended(0, LARGE, Lost(how="killed"))])
    assert chosen(dispatch, [Need(GIB)], [SMALL, LARGE]) == [(0, "small")]  # nowhere is better than anywhere else
    dispatch.learn([Ended(0, SMALL, Refused(findings=()))])
    assert chosen(dispatch, [Need(GIB)], [SMALL], [SMALL, LARGE]) == [(0, "small")]


# Many of them: slots and clocks that are made up (scripts/benchmarks/fairness.py)

workers = st.lists(st.tuples(st.integers(1, 4), st.sampled_from([0.5, 1.0, 3.0])), min_size=1, max_size=5)
works = st.lists(st.tuples(st.integers(0, 40), st.integers(1, 30), st.integers(0, 4 * GIB)), min_size=1, max_size=40)


def made_up(slots: list[tuple[int, float]], jobs: list[tuple[int, int, int]]) -> tuple[list[Job], list[Worked]]:
    """Jobs that some slot is large enough for."""
    made = [slot(f"s{i}", gib, speed) for i, (gib, speed) in enumerate(slots)]
    most = max(worker.slot.memory_bytes or 0 for worker in made)
    return [Job(id, ready, work, min(memory, most)) for id, (ready, work, memory) in enumerate(jobs)], made


@given(workers, works)
def test_nobody_is_passed_over_or_starves_and_no_slot_idles_beside_work(
    slots: list[tuple[int, float]], jobs: list[tuple[int, int, int]]
) -> None:
    seen = measure(*made_up(slots, jobs), Dispatch().choose)
    assert (seen.passed_over, seen.idle_beside_work) == (0, 0)
    assert seen.utilisation <= seen.possible * (1 + 1e-9)


@given(works)
def test_where_all_slots_are_as_large_nobody_is_overtaken(jobs: list[tuple[int, int, int]]) -> None:
    runs = simulate(*made_up([(4, 1.0), (4, 3.0)], jobs), Dispatch().choose)
    assert overtaken(runs) == 0


def test_the_checks_see_a_rule_that_is_unfair_and_one_that_is_idle() -> None:
    jobs, made = made_up([(4, 1.0)], [(0, 5, 0), (1, 5, 0), (2, 5, 0)])
    unfair = measure(jobs, made, lambda waiting, free, serving: Dispatch().choose(reversed(list(waiting)), free, serving))
    assert (unfair.passed_over, unfair.overtaken, unfair.idle_beside_work) == (1, 1, 0)

    def one_at_a_time(waiting: object, free: list[Slot], serving: list[Slot]) -> object:
        return islice(Dispatch().choose(waiting, free, serving), len(free) - len(serving) + 1)  # type: ignore[arg-type]

    jobs, made = made_up([(4, 1.0), (4, 1.0)], [(0, 5, 0), (0, 5, 0)])
    idle: Measured = measure(jobs, made, one_at_a_time)  # type: ignore[arg-type]
    assert (idle.idle_beside_work, idle.utilisation, idle.possible) == (5, 0.5, 1)


def test_the_bound_counts_what_only_the_large_slot_can_do() -> None:
    jobs, made = made_up([(1, 1.0), (4, 1.0)], [(0, 10, 4 * GIB), (0, 10, 4 * GIB), (0, 1, 0)])
    assert soonest(jobs, made) == 20
    runs = simulate(jobs, made, Dispatch().choose)
    assert max(run.end for run in runs) == 20
    assert list(passed_over(runs, made)) == []
    assert idle_beside_work(runs, made) == 0


@pytest.mark.parametrize("mix", MIXES, ids=lambda mix: mix.title)
def test_slots_are_nearly_as_busy_as_any_schedule_could_keep_them(mix: Mix) -> None:
    seen = measure(jobs_of(mix, seed=0), mix.workers, Dispatch().choose)
    assert seen.utilisation >= LEAST * seen.possible
    assert (seen.passed_over, seen.idle_beside_work) == (0, 0)
