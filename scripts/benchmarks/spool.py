"""What the spool itself costs, at 1,000 waiting files, at 100,000, and after 1,000,000 have ended.

The real loop over a real spool and ledger, with judges that say at once what the workers would, so that nothing but the daemon's own work
is measured: how fast files are admitted once they are listed, what a submission costs from its claim to its report, how long
`fifomark status` takes, how much memory the daemon needs.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))
FIFOMARK = Path(sys.executable).parent / "fifomark"


class Spool:
    """A spool of one size and its daemon, in a process of its own, so that its memory is that of this size."""

    def __init__(self, root: Path, waiting: int, ended: int, taken: int) -> None:
        command = [sys.executable, __file__, "--root", str(root), "--waiting", str(waiting), "--ended", str(ended), "--taken", str(taken)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.waiting, self.ended = waiting, ended
        self.admission = self._told()
        self.rounds: list[dict[str, float]] = []

    def round(self) -> None:
        """Take as many as are timed, and let as many come again."""
        assert self._process.stdin is not None
        print(file=self._process.stdin, flush=True)
        self.rounds.append(self._told())

    def median(self, what: str) -> float:
        return statistics.median(figures[what] for figures in self.rounds)

    def close(self) -> None:
        self._process.communicate()

    def _told(self) -> dict[str, float]:
        assert self._process.stdout is not None
        return dict(json.loads(self._process.stdout.readline()))


def measure(root: Path, waiting: int, ended: int, taken: int) -> None:
    """In the process of its own: prints how the files were admitted, and then, for each line that comes, how a round went."""
    from daemon_bench import Bench

    from fifomark.core.states import State
    from fifomark.core.submission import EVERYTHING
    from fifomark.daemon.daemon import Daemon
    from fifomark.daemon.notify import Notifier
    from fifomark.daemon.service import Loop
    from fifomark.daemon.signals import Signals

    bench = Bench(root)
    names = itertools.count()

    def admitted() -> dict[str, float]:
        """As many come as there is room for."""
        bench.ledger.steering.pause("while they are admitted")
        new = waiting - bench.ledger.counts()[State.QUEUED]
        for i in itertools.islice(names, new):
            path = root / "incoming" / f"{i:07d}.pt"
            path.write_bytes(b"model")
            os.utime(path, ns=(i, 10**18 + i))
        began = time.perf_counter()
        bench.daemon.tick(time.time(), EVERYTHING)
        listed = bench.daemon.admitting.sweep_seconds
        while bench.daemon.admitting.has_more:
            bench.daemon.tick(time.time(), None)
        seconds = time.perf_counter() - began - listed
        assert bench.ledger.counts()[State.QUEUED] == waiting
        bench.ledger.steering.pause(None)
        os.sync()  # what this has left to the disk is no part of what a submission costs
        return {"listed_s": listed, "admitted_per_s": new / seconds}

    class Enough(Exception):
        pass

    def round() -> dict[str, float]:
        turns: list[float] = [time.perf_counter()]
        cpu = time.process_time()

        def on_turn(daemon: Daemon) -> None:
            turns.extend([time.perf_counter()] * sum(row.state is State.DONE for row in daemon.settled))
            if len(turns) > taken:
                raise Enough

        with contextlib.suppress(Enough), Signals() as signals:
            Loop(bench.daemon, "serve", on_turn, signals, Notifier({})).run()
        cpu = time.process_time() - cpu
        began = time.perf_counter()
        subprocess.run([FIFOMARK, "status", "--spool", str(root)], check=True, stdout=subprocess.DEVNULL)
        return {
            "submission_ms": (turns[-1] - turns[0]) / (len(turns) - 1) * 1e3,
            "submission_cpu_ms": cpu / (len(turns) - 1) * 1e3,
            "status_s": time.perf_counter() - began,
            "memory_mb": psutil.Process().memory_info().rss / 1e6,
        }

    _fill(bench.ledger._db, ended)
    print(json.dumps(admitted()), flush=True)
    for _ in sys.stdin:
        print(json.dumps(round()), flush=True)
        bench.ledger.close()
        bench.start()  # another daemon, which the loop has recover
        admitted()


def _fill(db: object, ended: int) -> None:
    """As if so many had been marked before, each with its history."""
    rows = ((f"old{i}.pt".encode(), f"owner{i % 500}", i) for i in range(ended))
    db.execute("BEGIN")  # type: ignore[attr-defined]
    db.executemany(  # type: ignore[attr-defined]
        "INSERT INTO submissions (folder, name, kind, rubric, owner, state, order_ns, device, inode, size, mtime_ns, received_at, "
        "updated_at, verdict, family, points, points_possible, reason, message) VALUES ('', ?1, 'file', 'digits', ?2, 'done', ?3, 1, ?3, "
        "24000, ?3, ?3, ?3, 'clean', 'mlp', 9.0, 10.0, 'marked', 'marked')",
        rows,
    )
    for state in ("queued", "sanitizing", "sanitized", "evaluating", "done"):
        db.execute("INSERT INTO events SELECT id, updated_at, ?, 1, NULL FROM submissions", (state,))  # type: ignore[attr-defined]
    db.execute("COMMIT")  # type: ignore[attr-defined]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--waiting", type=int, default=100_000)
    parser.add_argument("--ended", type=int, default=1_000_000)
    parser.add_argument("--taken", type=int, default=500, help="submissions that are timed in a round")
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    if chosen.root:
        measure(chosen.root, chosen.waiting, chosen.ended, chosen.taken)
        return
    with tempfile.TemporaryDirectory() as temporary, contextlib.ExitStack() as stack:
        sizes = [(1_000, 0), (chosen.waiting, 0), (chosen.waiting, chosen.ended)]
        spools = [Spool(Path(temporary, str(i)), *size, chosen.taken) for i, size in enumerate(sizes)]
        for spool in spools:
            stack.callback(spool.close)
        for _ in range(chosen.rounds):  # in turn: a disk is now quick, now slow
            for spool in spools:
                spool.round()
        print(f"medians of {chosen.rounds} rounds of {chosen.taken} submissions, in turn:")
        print("waiting    ended  listed s  admitted/s  submission ms (cpu)   × first (cpu)  status s  memory MB")
        wall, cpu = (spools[0].median(what) for what in ("submission_ms", "submission_cpu_ms"))
        for spool in spools:
            print(
                f"{spool.waiting:7d} {spool.ended:8d} {spool.admission['listed_s']:9.2f} {spool.admission['admitted_per_s']:11.0f} "
                f"{spool.median('submission_ms'):10.2f} ({spool.median('submission_cpu_ms'):.2f}) "
                f"{spool.median('submission_ms') / wall:9.2f} ({spool.median('submission_cpu_ms') / cpu:.2f}) "
                f"{spool.median('status_s'):9.2f} {max(figures['memory_mb'] for figures in spool.rounds):10.0f}"
            )
    print("asked: admitted/s ≥ 10000, × first ≤ 1.2, status ≤ 0.3 s, memory ≤ 300 MB")


if __name__ == "__main__":
    main()
