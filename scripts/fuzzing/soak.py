"""Makes mutants of honest files for minutes or hours, and stops for nothing but a file of which something does not hold.

The mutants of a seed are always the same, whatever the number of jobs: any one of them can be made again by its number.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import tempfile
import time
from collections import Counter
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from fuzzing.mutants import mutant
from fuzzing.oracle import in_memory
from fuzzing.seeds import seeds
from fuzzing.worker import Board, work

OVERDUE = {"describing": 12.0}  # seconds; the parser's server gives its child 10 and says FM208
HANG = 60.0
EVERY = 20.0  # seconds between two lines of progress
_ENDLESS = 1 << 40


class Job:
    """One worker, and another one behind it when it has died."""

    def __init__(self, options: argparse.Namespace, index: int, folder: Path) -> None:
        self._options, self._index, self._folder = options, index, folder
        folder.mkdir()
        self.board = Board()
        self.last = (options.first + index - options.jobs, time.monotonic())  # the last mutant that was answered, and when
        self.start()

    def start(self) -> None:
        first = self.last[0] + self._options.jobs
        end = self._options.first + (self._options.count or _ENDLESS)
        self.answers, theirs = multiprocessing.Pipe(duplex=False)
        context = multiprocessing.get_context("fork")  # torch is loaded once
        arguments = (self._options.seed, range(first, end, self._options.jobs), self._folder, theirs, self.board)
        self.process: BaseProcess = context.Process(target=work, args=arguments, daemon=True)
        self.board.write(first, "starting")
        self.last = (self.last[0], time.monotonic())
        self.process.start()
        theirs.close()

    def overdue(self) -> bool:
        _, stage = self.board.read()
        return time.monotonic() - self.last[1] > OVERDUE.get(stage, HANG)


class Soak:
    """Counts what the workers say, and keeps what must not be."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._keep = Path(options.keep or tempfile.mkdtemp(prefix="fifomark-fuzz-"))
        self.verdicts: Counter[str] = Counter()
        self.codes: Counter[str] = Counter()
        self.failures = 0
        self._started = self._told = time.monotonic()

    def run(self) -> None:
        seeds()  # made once, before the workers are forked
        until = self._started + self._options.minutes * 60 if self._options.minutes else float("inf")
        with tempfile.TemporaryDirectory(prefix="fifomark-fuzz-", dir=in_memory()) as folder:
            self._watch([Job(self._options, index, Path(folder, str(index))) for index in range(self._options.jobs)], until)
        self._progress(last=True)

    def _watch(self, jobs: list[Job], until: float) -> None:
        """Until all is done, the time is up, or too much was wrong."""
        while jobs and time.monotonic() < until and self.failures < self._options.failures:
            ready = wait([job.answers for job in jobs], timeout=1.0)
            for job in list(jobs):
                if job.answers in ready and not self._take(job):
                    jobs.remove(job)
                elif job.overdue():
                    self._stop(job)
            self._progress()
        for job in jobs:
            job.process.kill()
            job.process.join()

    def _take(self, job: Job) -> bool:
        """One answer. False where the worker has done all that it was asked."""
        answer = _received(job.answers)
        if answer is None:
            return self._ended(job)
        number, verdict, codes, wrong = json.loads(answer)
        job.last = (number, time.monotonic())
        self.verdicts[verdict] += 1
        self.codes.update(codes)
        if wrong:
            self._fail(number, wrong)
        return True

    def _ended(self, job: Job) -> bool:
        job.process.join()
        if job.process.exitcode == 0:
            return False
        number, stage = job.board.read()
        self.verdicts["wrong"] += 1
        self._fail(number, f"the process died while {stage} (exit code {job.process.exitcode})")
        self._again(job, number)
        return True

    def _stop(self, job: Job) -> None:
        number, stage = job.board.read()
        job.process.kill()
        job.process.join()
        self.verdicts["overdue" if stage in OVERDUE else "wrong"] += 1
        if stage in OVERDUE:  # what the parser's server ends by its clock: counted, and kept to be looked at
            print(f"fuzz: mutant {number} was stopped while {stage}; kept as {self._kept(number)}", file=sys.stderr)
        else:
            self._fail(number, f"it hangs while {stage}")
        self._again(job, number)

    def _again(self, job: Job, number: int) -> None:
        job.answers.close()
        job.last = (number, time.monotonic())
        job.start()

    def _kept(self, number: int) -> Path:
        self._keep.mkdir(parents=True, exist_ok=True)
        path = self._keep / f"{self._options.seed}-{number}.pt"
        path.write_bytes(mutant(self._options.seed, number, "/tmp/fifomark-fuzz/marker").body)
        return path

    def _fail(self, number: int, what: str) -> None:
        self.failures += 1
        print(f"fuzz: mutant {number}: {what}\n  kept as {self._kept(number)}", file=sys.stderr)
        print(f"  again: scripts/fuzz --seed {self._options.seed} --first {number} --count 1", file=sys.stderr)

    def _progress(self, *, last: bool = False) -> None:
        now = time.monotonic()
        if not last and now - self._told < EVERY:
            return
        self._told = now
        total, seconds = self.verdicts.total(), now - self._started
        verdicts = ", ".join(f"{count:,} {verdict}" for verdict, count in self.verdicts.most_common())
        print(f"fuzz: {total:,} mutants in {seconds / 60:.1f} min ({total / seconds:.0f}/s): {verdicts}", file=sys.stderr)
        if last:
            print("fuzz: " + ", ".join(f"{code} {count:,}" for code, count in sorted(self.codes.items())), file=sys.stderr)


def _received(answers: Connection) -> bytes | None:
    """One message; None where the other end is gone."""
    try:
        return answers.recv_bytes()
    except EOFError:
        return None


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/fuzz", description="Changes honest files at random and checks what must hold of them.")
    parser.add_argument("--minutes", type=float, help="stop after so many minutes")
    parser.add_argument("--count", type=int, help="stop after so many mutants (10,000 where neither is given)")
    parser.add_argument("--seed", default="0", help="another seed, other mutants (default 0)")
    parser.add_argument("--first", type=int, default=0, help="the number of the first mutant")
    parser.add_argument("--jobs", type=int, default=1, help="processes (default 1)")
    parser.add_argument("--keep", help="the folder for files of which something does not hold (default: a new one)")
    parser.add_argument("--failures", type=int, default=10, help="stop after so many of them (default 10)")
    options = parser.parse_args()
    if options.minutes is None and options.count is None:
        options.count = 10_000
    return options


def main() -> int:
    soak = Soak(_options())
    soak.run()
    return 1 if soak.failures else 0


if __name__ == "__main__":
    sys.exit(main())
