"""Kills a daemon, its workers and its sanitizer with SIGKILL at random instants while files are dropped, and checks after every death.

Nineteen of twenty kills hit a daemon whose slots mark without torch (its sanitizer, ledger and moves are the real ones), the others the
real thing. Rounds take turns with isolation = "submission" and "batch".
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from random import Random

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
        self._kills, self._files, self._seed, self._real = kills, files, seed, real
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
                break
        self._victim.kill("all")
        self._drop(self._files)
        self.problems += self._victim.drain()
        self.problems += oracle.check(self._root, self._dropped, at_rest=True) + oracle.check_deeply(self._root)
        self.problems = [f"round {self._seed}: {problem}" for problem in self.problems]

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


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/torture crash", description=__doc__)
    parser.add_argument("--kills", type=int, default=2000)
    parser.add_argument("--submissions", type=int, default=20000)
    parser.add_argument("--seed", default=str(time.time_ns()), help="what happens when still depends on the machine")
    parser.add_argument("--keep", metavar="FOLDER", help="where the spool of a round in which something did not hold is kept")
    return parser.parse_args()


def rounds(options: argparse.Namespace) -> list[tuple[int, int, bool]]:
    """Kills and files of each round, and whether it is against the real thing; ten files a kill there are too many for one run."""
    real = max(options.kills // 20, 1)
    light, files = options.kills - real, options.submissions - 4 * real
    count = max(-(-light // KILLS_A_ROUND), 1)
    shares = [(light * (i + 1) // count - light * i // count, files * (i + 1) // count - files * i // count, False) for i in range(count)]
    return [*shares, (real, 4 * real, True)]


def main() -> int:
    options = parsed()
    hits: Counter[str] = Counter()
    started = time.monotonic()
    plan = rounds(options)
    for i, (kills, files, real) in enumerate(plan):
        folder = Path(tempfile.mkdtemp(prefix="fifomark-crash-"))
        isolation = "batch" if i % 2 else "submission"
        one = Round(folder, kills, files, f"{options.seed}-{i}", isolation=isolation, real=real)
        one.run()
        hits += one.hits
        what = f"{'the real thing' if real else 'light slots'}, {isolation}"
        print(f"round {i + 1} of {len(plan)} ({what}): {kills} kills, {files} files, {time.monotonic() - started:.0f} s in all", flush=True)
        if one.problems:
            print("\n".join(one.problems[:50]))
            kept = Path(options.keep or os.getcwd(), folder.name)
            shutil.move(folder, kept)
            print(f"something does not hold; the spool and what its daemon said are in {kept}")
            return 1
        shutil.rmtree(folder)
    by_target = ", ".join(f"{count} {target}" for target, count in hits.most_common())
    print(f"{hits.total()} kills ({by_target}) over {options.submissions} submissions, {time.monotonic() - started:.0f} s: all holds")
    return 0


if __name__ == "__main__":
    sys.exit(main())
