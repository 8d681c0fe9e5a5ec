"""Kills a daemon, its workers and its sanitizer with SIGKILL at random instants while files are dropped, and checks after every death.

Nineteen of twenty kills hit a daemon whose slots mark without torch (its sanitizer, ledger and moves are the real ones), the others the
real thing. Rounds take turns with isolation = "submission" and "batch".
"""

from __future__ import annotations

import argparse
import multiprocessing
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from random import Random
from typing import NamedTuple

from fuzzing.oracle import in_memory

from torturing import oracle
from torturing.spools import MIXED, Dropped, drop, new_spool
from torturing.victim import Victim

KILLS_A_ROUND = 100
# Whom a kill hits, and how often. "all" is what a cgroup's out-of-memory killer does.
TARGETS = {"daemon": 50, "all": 10, "slot": 15, "sanitizer": 10, "writer": 8, "parser": 7}
_READER_REST = 5.0  # seconds between two kills of a writer or parser: a file that loses its reader twice is refused, and should be


class Round:
    """One spool, `kills` kills while `files` files are dropped, then a drain. `problems` has what did not hold."""

    def __init__(self, folder: Path, kills: int, files: int, seed: str, *, isolation: str, real: bool) -> None:
        self._rng = Random(seed)
        self._kills, self._files = kills, files
        self._root = new_spool(folder / "spool", isolation=isolation, slots=["cpu", "cpu"], rescan_seconds=1.0)
        self._victim = Victim(self._root, folder / "log", real=real)
        self._dropped: list[Dropped] = []
        self._known: set[str] = set()
        self._reader_killed = 0.0
        self.hits: Counter[str] = Counter()
        self.problems: list[str] = []

    def run(self) -> None:
        for done in range(self._kills):
            self._victim.start()
            self._live(self._files * (done + 1) // self._kills)
            self._kill()
            if self.problems:
                return
        self._victim.kill("all")
        self._drop(self._files)
        self.problems += self._victim.drain()
        self.problems += oracle.check(self._root, self._dropped, at_rest=True) + oracle.check_deeply(self._root)

    def _live(self, files: int) -> None:
        """Drop files up to so many, and let the daemon work until some instant: mostly when it has something in hand."""
        early = self._rng.random() < 0.2
        until = time.monotonic() + self._rng.uniform(0.0, 0.5 if early else 0.4)
        if not early:
            self._drop(len(self._dropped) + (files - len(self._dropped)) // 2)
            self._victim.await_progress(20.0)
            until = time.monotonic() + self._rng.uniform(0.0, 0.4)
        while time.monotonic() < until:
            self._drop(min(files, len(self._dropped) + self._rng.randrange(4)))
            time.sleep(self._rng.uniform(0.0, 0.02))
        self._drop(files)

    def _drop(self, files: int) -> None:
        for number in range(len(self._dropped), files):
            self._dropped.append(drop(self._root, self._rng.choice(MIXED), number))

    def _kill(self) -> None:
        target = self._rng.choices(list(TARGETS), list(TARGETS.values()))[0]
        if target in ("sanitizer", "writer", "parser"):
            if time.monotonic() - self._reader_killed < _READER_REST:
                target = "daemon"
            else:
                self._reader_killed = time.monotonic()
        hit = self._victim.kill(target)
        self.hits[hit] += 1
        self.problems += self._victim.complaints()
        if not self._victim.alive:
            self.problems += oracle.check(self._root, self._dropped, at_rest=False, known=self._known)


class Plan(NamedTuple):
    """A round before it is run."""

    seed: str
    kills: int
    files: int
    isolation: str
    real: bool


class Told(NamedTuple):
    """What came of one. `kept` is the folder of one in which something does not hold."""

    plan: Plan
    hits: Counter[str]
    problems: list[str]
    kept: str | None


def plans(kills: int, files: int, seed: str) -> list[Plan]:
    """Ten files a kill are too many for the real thing in one run: there are four."""
    real = kills // 20
    light, rest = kills - real, files - 4 * real
    count = max(-(-light // KILLS_A_ROUND), 1)
    made = [
        Plan(f"{seed}-{i}", _share(light, i, count), _share(rest, i, count), ("submission", "batch")[i % 2], False) for i in range(count)
    ]
    return [*made, Plan(f"{seed}-real", real, 4 * real, "submission", True)] if real else made


def _share(whole: int, i: int, count: int) -> int:
    return whole * (i + 1) // count - whole * i // count


def carry_out(plan: Plan) -> Told:
    folder = Path(tempfile.mkdtemp(prefix="fifomark-crash-", dir=in_memory()))
    one = Round(folder, plan.kills, plan.files, plan.seed, isolation=plan.isolation, real=plan.real)
    one.run()
    if not one.problems:
        shutil.rmtree(folder)
    return Told(plan, one.hits, one.problems, str(folder) if one.problems else None)


def main() -> int:
    options = parsed()
    started = time.monotonic()
    hits: Counter[str] = Counter()
    to_do = plans(options.kills, options.submissions, options.seed)
    with multiprocessing.get_context("fork").Pool(options.jobs, maxtasksperchild=1) as pool:
        for i, told in enumerate(pool.imap_unordered(carry_out, to_do, chunksize=1)):
            hits += told.hits
            what = f"{'the real thing' if told.plan.real else 'light slots'}, {told.plan.isolation}"
            took = time.monotonic() - started
            print(f"{i + 1} of {len(to_do)} ({what}): {told.hits.total()} kills, {told.plan.files} files, {took:.0f} s in all", flush=True)
            if told.problems:
                print("\n".join(told.problems[:50]))
                print(f"something does not hold; the spool and what its daemon said are in {told.kept}")
                return 1
    by_target = ", ".join(f"{count} {target}" for target, count in hits.most_common())
    print(f"{hits.total()} kills ({by_target}) over {options.submissions} submissions, {time.monotonic() - started:.0f} s: all holds")
    return 0


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/torture crash", description=__doc__)
    parser.add_argument("--kills", type=int, default=2000)
    parser.add_argument("--submissions", type=int, default=20000)
    parser.add_argument("--seed", default=str(time.time_ns()), help="whom, and about when; the instants still depend on the machine")
    parser.add_argument("--jobs", type=int, default=1, help="rounds at once (default: one)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
