"""Stops a daemon at every step of a small scenario, one run for each step, and makes every step fail in every way in which it can.

The scenario is one `fifomark drain` over a few files of every kind, in one process: loop, ledger, moves, reports and clean files are the
real ones, the judges cost nothing (torturing.inline). After each run what must hold at any instant is checked; then the spool is drained
again without faults, and everything must have come to its end.
"""

from __future__ import annotations

import argparse
import errno
import multiprocessing
import os
import re
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import NamedTuple

from fuzzing.oracle import in_memory

from fifomark.cli import drain as _drain  # noqa: F401 (loaded once, before the forks)
from fifomark.cli.main import main as fifomark
from fifomark.daemon import service
from torturing import oracle, stepping
from torturing.inline import EagerPool
from torturing.power import Disk
from torturing.spools import Dropped, drop, new_spool
from torturing.stepping import KILL, Call, Decision

KINDS = ("good", "unsafe", "misfit", "slow", "broken", "good")
_CHANGING = ("open", "openat", "mkdir", "mkdirat", "rename", "renameat", "renameat2", "link", "linkat")
_REMOVING = ("unlink", "unlinkat")
_WRITING = ("write", "pwrite64", "writev", "ftruncate", "fallocate", "fsync", "fdatasync")
ERRORS = {  # and the calls that can come to them
    errno.ENOSPC: _CHANGING + _WRITING,
    errno.EIO: _CHANGING + _REMOVING + _WRITING,
    errno.EACCES: _CHANGING + _REMOVING,
    errno.EROFS: _CHANGING + _REMOVING,
}
_SAID = re.compile(r"fifomark: (?P<what>.*)")


class Trial(NamedTuple):
    """What is done at the step `at`: "kill", "power" (a power cut) or "error"; `lasting`: the same error ever after. "twice" is a kill, and
    a power cut at step `again` of the daemon that recovers from it."""

    how: str
    at: int
    error: int = 0
    lasting: bool = False
    again: int = 0

    def __str__(self) -> str:
        what = f"{errno.errorcode[self.error]}{' ever after' if self.lasting else ''}" if self.error else self.how
        return f"{what} at step {self.at}" + (f", then again at step {self.again}" if self.again else "")


class Wrong(NamedTuple):
    trial: Trial
    call: str
    what: str


class Scenario:
    """A spool with a few files, which is copied for every trial, and what is done with it: a drain, or, where that is done already, another
    attempt (`retry`) at what did not end well."""

    def __init__(self, folder: Path, isolation: str, *, retry: bool) -> None:
        self._folder, self._template = folder, folder / "template" / "spool"
        self._template.parent.mkdir()
        new_spool(self._template, isolation=isolation, max_attempts=3, settle_seconds=0.0)
        self.dropped: list[Dropped] = [drop(self._template, kind, i, mtime=1000.0 + i) for i, kind in enumerate(KINDS)]
        self._work, self._drained = (again, True) if retry else (drain, False)

    def steps(self) -> list[Call]:
        """Every call of a run without faults."""
        root = self._fresh("steps")
        ended = stepping.run(lambda: self._work(root), str(root), lambda call: None)
        assert ended.exit_code == 0, f"without faults it ends with {ended.exit_code}"
        assert not (wrong := oracle.check(root, self.dropped, at_rest=True)), wrong
        shutil.rmtree(root.parent)
        return ended.calls

    def attempt(self, trial: Trial) -> list[Wrong]:
        root = self._fresh(f"{os.getpid()}")
        disk = Disk(root, root.parent / "kept")
        ended = stepping.run(lambda: self._work(root), str(root), _decider(trial, disk))
        call = next((str(call) for call in ended.calls if call.number == trial.at), "never reached")
        if trial.how == "power":
            disk.cut()
        wrong = list(_ending(trial, ended.exit_code, root))
        wrong += [f"at once: {what}" for what in oracle.check(root, self.dropped, at_rest=False)]
        if trial.again:
            stepping.run(lambda: drain(root), str(root), _decider(trial._replace(at=trial.again), disk))
            disk.cut()
            wrong += [f"after the second: {what}" for what in oracle.check(root, self.dropped, at_rest=False)]
        code = stepping.plainly(lambda: drain(root))
        if code != 0:
            wrong.append(f"the next drain ends with {code}: {_stderr(root)}")
        wrong += [f"in the end: {what}" for what in oracle.check(root, self.dropped, at_rest=True)]
        shutil.rmtree(root.parent)
        return [Wrong(trial, call, what) for what in wrong]

    def _fresh(self, name: str) -> Path:
        """A copy of the template, beside an empty folder `kept`. It is drained here where that comes first: the ledger knows inodes."""
        folder = self._folder / name
        (folder / "kept").mkdir(parents=True)
        root = Path(shutil.copytree(self._template, folder / "spool"))
        if self._drained:
            assert stepping.plainly(lambda: drain(root)) == 0
        return root


def drain(root: Path) -> int:
    """`fifomark drain` in this process."""
    service.LocalPool = EagerPool  # type: ignore[misc,assignment]
    _write_beside(root)
    return fifomark(["drain", "--spool", str(root)])


def again(root: Path) -> int:
    """`fifomark retry` of what was rejected or failed, and a drain."""
    ids = [str(int(path.name[:8])) for folder in ("rejected", "failed") for path in sorted((root / folder).glob("*.json"))]
    _write_beside(root)
    fifomark(["retry", *ids, "--spool", str(root)])
    return drain(root)


def _write_beside(root: Path) -> None:
    """From now on what this process prints goes to a file beside the spool, and to nobody else."""
    said = os.open(root.parent / "stderr", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(said, 1)
    os.dup2(said, 2)
    sys.stderr = open(2, "w", closefd=False, buffering=1)  # noqa: SIM115 (until we end)


def _stderr(root: Path) -> str:
    return (root.parent / "stderr").read_text()


def _decider(trial: Trial, disk: Disk) -> Callable[[Call], Decision]:
    def decide(call: Call) -> Decision:
        if call.number == trial.at and not trial.error:
            return KILL
        due = call.number == trial.at or (trial.lasting and call.number > trial.at)
        if due and trial.error and call.name in ERRORS[trial.error]:
            return trial.error
        if trial.how in ("power", "twice"):
            disk.about_to(call)
        return None

    return decide


def _ending(trial: Trial, code: int, root: Path) -> Iterator[str]:
    """Whether the daemon ended as it should: killed, well, or with words."""
    if not trial.error:
        if code not in (-9, 0):
            yield f"it was killed, and ended with {code}: {_stderr(root)}"
        return
    said = _stderr(root)
    if code not in (0, 2, 3):
        yield f"it ended with {code}: {said}"
    if "Traceback" in said or "Exception ignored" in said or (code != 0 and not _SAID.search(said)):
        yield f"it ended with {code} and says: {said}"


def trials(steps: list[Call], every: int, seed: int) -> Iterator[Trial]:
    """All of them; with `every`, each such one only. SQLite's writes in a row count as one step for kills: in between they are its own."""
    rng = Random(seed)
    apart = [call for i, call in enumerate(steps) if i == 0 or (call.name, call.path) != (steps[i - 1].name, steps[i - 1].path)]
    made = [Trial("kill", call.number) for call in apart]
    made += [Trial("power", call.number) for call in apart]
    made += [Trial("twice", call.number, again=rng.randrange(10, 100)) for call in apart]
    for error, calls in ERRORS.items():
        for lasting in (False, True):
            made += [Trial("error", call.number, error, lasting) for call in apart if call.name in calls]
    yield from made[:: max(every, 1)]


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/torture faults", description=__doc__)
    parser.add_argument("--every", type=int, default=1, metavar="N", help="run each Nth trial only (default: all)")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="how many at once")
    parser.add_argument("--seed", type=int, default=0, help="chooses where a recovery is killed")
    parser.add_argument("--isolation", choices=("submission", "batch"), default="submission")
    parser.add_argument("--retry", action="store_true", help="try again what did not end well, instead of all from its beginning")
    parser.add_argument("--only", choices=("kill", "power", "twice", "error"), help="one kind of trial")
    parser.add_argument("--list", action="store_true", help="print the steps, and end")
    return parser.parse_args()


_scenario: Scenario


def _attempt(trial: Trial) -> list[Wrong]:
    return _scenario.attempt(trial)


def main() -> int:
    global _scenario
    options = parsed()
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fifomark-faults-", dir=in_memory()) as folder:
        _scenario = Scenario(Path(folder), options.isolation, retry=options.retry)
        steps = _scenario.steps()
        if options.list:
            print("\n".join(f"{call.number:4} {call}" for call in steps))
            return 0
        chosen = [trial for trial in trials(steps, options.every, options.seed) if options.only in (None, trial.how)]
        with multiprocessing.get_context("fork").Pool(options.jobs) as pool:
            wrong = [one for some in pool.imap_unordered(_attempt, chosen, chunksize=4) for one in some]
    for one in wrong[:50]:
        print(f"{one.trial} ({one.call}): {one.what}")
    counts = Counter(trial.how for trial in chosen)
    ran = ", ".join(f"{count} {how}" for how, count in sorted(counts.items()))
    print(f"{len(steps)} steps, {len(chosen)} runs ({ran}), {time.monotonic() - started:.0f} s: {len(wrong)} things do not hold")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
