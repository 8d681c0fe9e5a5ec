"""Who waits for whom, and how busy slots are: the daemon's own rule of choice with slots and clocks that are made up.

For each of some mixes of slots (of different speeds and memories) and submissions (long and short, large and small, sanitized in another
order than they came) it prints how busy the slots were, beside a bound that no schedule can beat, whatever it knows in advance; how many
submissions that came later started while one waited, at most; and how often one was passed over for a slot that could run it, which must
be never. Ends with 1 where the promises of docs/slots.md are not kept.
"""

from __future__ import annotations

import argparse
import heapq
import random
import sys
from bisect import insort
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby, takewhile
from typing import NamedTuple

from tabulate import tabulate

from fifomark.daemon.dispatch import Dispatch, Need
from fifomark.workers.slots import Slot

GIB = 1 << 30
LEAST = 0.95  # of what is possible


class Job(NamedTuple):
    """A submission. `id` is its place in line, `ready` when it is sanitized, `work` its seconds on a slot of speed 1."""

    id: int
    ready: float
    work: float
    memory_bytes: int


class Run(NamedTuple):
    job: Job
    slot: str
    start: float
    end: float


class Worked(NamedTuple):
    """A slot that does not exist, and how fast it is."""

    slot: Slot
    speed: float


Chooser = Callable[[Iterable[tuple[int, Need]], Sequence[Slot], Sequence[Slot]], Iterable[tuple[int, Slot]]]


def slot(name: str, gib: int, speed: float) -> Worked:
    return Worked(Slot(name=name, device="cuda", visible=name, memory_bytes=gib * GIB), speed)


def simulate(jobs: Sequence[Job], workers: Sequence[Worked], choose: Chooser) -> list[Run]:
    """Every job on the slot that `choose` gives it; time goes from one event to the next."""
    by_id, speeds = {job.id: job for job in jobs}, {worker.slot.name: worker.speed for worker in workers}
    slots = [worker.slot for worker in workers]
    events: list[tuple[float, int, str]] = [(job.ready, job.id, "") for job in jobs]  # (when, whose, which slot becomes free)
    heapq.heapify(events)
    waiting: list[int] = []
    busy: set[str] = set()
    runs: list[Run] = []
    while events:
        now = events[0][0]
        while events and events[0][0] == now:
            _, id, freed = heapq.heappop(events)
            busy.discard(freed) if freed else insort(waiting, id)
        needs = ((id, Need(by_id[id].memory_bytes)) for id in waiting)
        for id, chosen in list(choose(needs, [slot for slot in slots if slot.name not in busy], slots)):
            run = Run(by_id[id], chosen.name, now, now + by_id[id].work / speeds[chosen.name])
            runs.append(run)
            waiting.remove(id)
            busy.add(chosen.name)
            heapq.heappush(events, (run.end, id, chosen.name))
    return runs


def passed_over(runs: Sequence[Run], workers: Sequence[Worked]) -> Iterator[tuple[Run, Run]]:
    """(one that waited, one behind it in line that started meanwhile on a slot that it could have had)."""
    memory = {worker.slot.name: worker.slot.memory_bytes or 0 for worker in workers}
    for waited, later in _overtakings(runs):
        if waited.job.memory_bytes <= memory[later.slot]:
            yield waited, later


def overtaken(runs: Sequence[Run]) -> int:
    """How many at most started before one that was ready and before them in line."""
    counts: dict[int, int] = {}
    for waited, _ in _overtakings(runs):
        counts[waited.job.id] = counts.get(waited.job.id, 0) + 1
    return max(counts.values(), default=0)


def _overtakings(runs: Sequence[Run]) -> Iterator[tuple[Run, Run]]:
    """(one that waited, one behind it in line that started meanwhile)."""
    by_ready = sorted(runs, key=lambda run: run.job.ready)
    waiting: list[Run] = []  # in line
    at = 0
    for start, starting in groupby(sorted(runs, key=lambda run: run.start), key=lambda run: run.start):
        while at < len(by_ready) and by_ready[at].job.ready <= start:
            insort(waiting, by_ready[at], key=lambda run: run.job.id)
            at += 1
        group = list(starting)
        for run in group:
            waiting.remove(run)
        for later in group:
            yield from ((waited, later) for waited in takewhile(lambda run, id=later.job.id: run.job.id < id, waiting))


def idle_beside_work(runs: Sequence[Run], workers: Sequence[Worked]) -> float:
    """Seconds that slots were free while something that they could run was ready and waited."""
    idle = 0.0
    for worker in workers:
        mine = sorted((run for run in runs if run.slot == worker.slot.name), key=lambda run: run.start)
        edges = [0.0, *(edge for run in mine for edge in (run.start, run.end)), max(run.end for run in runs)]
        waits = [run for run in runs if run.start > run.job.ready and run.job.memory_bytes <= (worker.slot.memory_bytes or 0)]
        for begin, end in zip(edges[::2], edges[1::2], strict=True):
            if end > begin:
                idle += _covered(begin, end, waits)
    return idle


def _covered(begin: float, end: float, waits: Iterable[Run]) -> float:
    """How much of the time between was somebody's waiting."""
    covered, reached = 0.0, begin
    for ready, start in sorted((run.job.ready, run.start) for run in waits if run.job.ready < end and run.start > begin):
        covered += max(0.0, min(start, end) - max(ready, reached))
        reached = max(reached, min(start, end))
    return covered


def soonest(jobs: Sequence[Job], workers: Sequence[Worked]) -> float:
    """No schedule ends sooner: what needs so much, from when it is ready, by all slots that have it; and each job by itself."""
    bound = 0.0
    for least in {0, *(worker.slot.memory_bytes or 0 for worker in workers)}:
        speed = sum(worker.speed for worker in workers if (worker.slot.memory_bytes or 0) > least)
        work = 0.0
        for job in sorted(jobs, key=lambda job: -job.ready):
            if speed and job.memory_bytes > least:
                work += job.work
                bound = max(bound, job.ready + work / speed)
    fastest = {job.id: max(w.speed for w in workers if (w.slot.memory_bytes or 0) >= job.memory_bytes) for job in jobs}
    return max(bound, max(job.ready + job.work / fastest[job.id] for job in jobs))


class Mix(NamedTuple):
    """Slots, and what comes to them: `jobs` in all, on average `every` seconds; `long` and `large` are shares of them."""

    title: str
    workers: tuple[Worked, ...]
    jobs: int
    every: float
    long: float
    large: float


_LAB = (slot("a100", 80, 4.0), slot("a10-0", 24, 2.0), slot("a10-1", 24, 2.0), slot("t4", 16, 1.0))
_ODD = (slot("slow", 80, 1.0), slot("fast", 8, 6.0), slot("fast-too", 8, 6.0))
MIXES = (
    Mix("a course's deadline: all at once", _LAB, 10_000, 0.0, 0.05, 0.2),
    Mix("a busy lab: they come as fast as they go", _LAB, 10_000, 0.95, 0.05, 0.2),
    Mix("the slow slot alone has the memory", _ODD, 10_000, 0.0, 0.05, 0.05),
    Mix("four in ten need the one large slot", _LAB, 10_000, 0.0, 0.05, 0.4),
    Mix("a few very long ones", _LAB, 10_000, 2.15, 0.2, 0.2),
    Mix("eight cores, all the same", tuple(slot(f"cpu-{i}", 4, 1.0) for i in range(8)), 10_000, 0.0, 0.05, 0.0),
)


def jobs_of(mix: Mix, seed: int) -> list[Job]:
    """Short jobs of some seconds, long ones of about a minute; each ready a little after it came, in another order."""
    draw = random.Random(seed)
    most = max(worker.slot.memory_bytes or 0 for worker in mix.workers)
    least = min(worker.slot.memory_bytes or 0 for worker in mix.workers)
    came, jobs = 0.0, []
    for id in range(mix.jobs):
        came += draw.expovariate(1 / mix.every) if mix.every else 0.0
        work = draw.uniform(30, 120) if draw.random() < mix.long else draw.uniform(2, 8)
        memory = most if draw.random() < mix.large else draw.randint(1, least)
        jobs.append(Job(id, came + draw.uniform(0, 5), work, memory))
    return jobs


class Measured(NamedTuple):
    utilisation: float  # of all slots, weighed by their speed, until the last job ended
    possible: float  # what no schedule can beat
    overtaken: int
    passed_over: int
    idle_beside_work: float


def measure(jobs: Sequence[Job], workers: Sequence[Worked], choose: Chooser) -> Measured:
    runs = simulate(jobs, workers, choose)
    assert len(runs) == len(jobs), "somebody starved"
    all_work = sum(job.work for job in jobs) / sum(worker.speed for worker in workers)
    ended = max(run.end for run in runs)
    over = sum(1 for _ in passed_over(runs, workers))
    return Measured(all_work / ended, all_work / soonest(jobs, workers), overtaken(runs), over, idle_beside_work(runs, workers))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    seed = parser.parse_args().seed
    rows, kept = [], True
    for mix in MIXES:
        seen = measure(jobs_of(mix, seed), mix.workers, Dispatch().choose)
        share = seen.utilisation / seen.possible
        kept &= share >= LEAST and not seen.passed_over and not seen.idle_beside_work
        figures = (f"{seen.utilisation:.1%}", f"{seen.possible:.1%}", f"{share:.1%}", f"{seen.idle_beside_work:g}")
        rows.append((mix.title, *figures, seen.overtaken, seen.passed_over))
    headers = ("10,000 submissions", "slots busy", "at most", "of that", "idle beside work, s", "overtaken by, at most", "passed over")
    print(tabulate(rows, headers=headers, disable_numparse=True, colalign=("left", *["right"] * 6)))
    if not kept:
        print(f"fairness: less than {LEAST:.0%} of what is possible, or somebody was passed over, or a slot idled", file=sys.stderr)
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
