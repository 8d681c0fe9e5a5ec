"""What the spool itself costs, at 1,000 waiting files, at 100,000, and after 1,000,000 have ended.

The real loop over a real spool and ledger, with judges that say at once what the workers would, so that nothing but the daemon's own work
is measured: how fast files are admitted once they are listed, what a submission costs from its claim to its report, how long
`fifomark status` takes, how much memory the daemon needs.
"""

from __future__ import annotations

import argparse
import contextlib
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


def measured(root: Path, waiting: int, ended: int, taken: int) -> dict[str, float]:
    """In a process of its own, so that its memory is that of this size."""
    command = [sys.executable, __file__, "--root", str(root), "--waiting", str(waiting), "--ended", str(ended), "--taken", str(taken)]
    return dict(json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout))


def measure(root: Path, waiting: int, ended: int, taken: int) -> dict[str, float]:
    from daemon_bench import Bench

    from fifomark.core.states import State
    from fifomark.core.submission import EVERYTHING
    from fifomark.daemon.daemon import Daemon
    from fifomark.daemon.notify import Notifier
    from fifomark.daemon.service import Loop
    from fifomark.daemon.signals import Signals

    bench = Bench(root)
    incoming = root / "incoming"
    for i in range(waiting):
        path = incoming / f"{i:07d}.pt"
        path.write_bytes(b"model")
        os.utime(path, ns=(i, 10**18 + i))
    _fill(bench.ledger._db, ended)
    bench.ledger.steering.pause("while they are admitted")
    began = time.perf_counter()
    bench.daemon.tick(time.time(), EVERYTHING)
    listed = bench.daemon.admitting.sweep_seconds
    while bench.daemon.admitting.has_more:
        bench.daemon.tick(time.time(), None)
    admitted = time.perf_counter() - began - listed
    assert bench.ledger.counts()[State.QUEUED] == waiting
    bench.ledger.steering.pause(None)

    class Enough(Exception):
        pass

    turns: list[float] = [time.perf_counter()]
    cpu = time.process_time()

    def on_turn(daemon: Daemon) -> None:
        turns.extend([time.perf_counter()] * sum(row.state is State.DONE for row in daemon.settled))
        if len(turns) > taken:
            raise Enough

    with contextlib.suppress(Enough), Signals() as signals:
        Loop(bench.daemon, "serve", on_turn, signals, Notifier({})).run()
    cpu = time.process_time() - cpu
    status = []
    for _ in range(5):
        began = time.perf_counter()
        subprocess.run([FIFOMARK, "status", "--spool", str(root)], check=True, stdout=subprocess.DEVNULL)
        status.append(time.perf_counter() - began)
    return {
        "listed_s": listed,
        "admitted_per_s": waiting / admitted,
        "submission_ms": (turns[-1] - turns[0]) / (len(turns) - 1) * 1e3,
        "submission_cpu_ms": cpu / (len(turns) - 1) * 1e3,
        "status_s": statistics.median(status),
        "memory_mb": psutil.Process().memory_info().rss / 1e6,
    }


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
    parser.add_argument("--taken", type=int, default=500, help="submissions that are timed")
    chosen = parser.parse_args()
    if chosen.root:
        print(json.dumps(measure(chosen.root, chosen.waiting, chosen.ended, chosen.taken)))
        return
    sizes = [(1_000, 0), (chosen.waiting, 0), (chosen.waiting, chosen.ended)]
    first: dict[str, float] | None = None
    print("waiting    ended  listed s  admitted/s  submission ms (cpu)   × first (cpu)  status s  memory MB")
    for waiting, ended in sizes:
        with tempfile.TemporaryDirectory() as temporary:
            seen = measured(Path(temporary, "spool"), waiting, ended, chosen.taken)
        first = first or seen
        print(
            f"{waiting:7d} {ended:8d} {seen['listed_s']:9.2f} {seen['admitted_per_s']:11.0f} {seen['submission_ms']:10.2f} "
            f"({seen['submission_cpu_ms']:.2f}) {seen['submission_ms'] / first['submission_ms']:9.2f} "
            f"({seen['submission_cpu_ms'] / first['submission_cpu_ms']:.2f}) {seen['status_s']:9.2f} {seen['memory_mb']:10.0f}",
            flush=True,
        )
    print("asked: admitted/s ≥ 10000, × first ≤ 1.2, status ≤ 0.3 s, memory ≤ 300 MB")


if __name__ == "__main__":
    main()
