"""The sanitizer's own processes at each of their steps: killed there, or refused the call, while the daemon around them lives on.

One `drain` with processes as they are, but for slots that mark without torch.
"""

from __future__ import annotations

import argparse
import errno
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from fuzzing.oracle import in_memory

from torturing import oracle, stepping
from torturing.spools import drop, new_spool
from torturing.stepping import KILL_CALLER, Call, Decision

KINDS = ("good", "unsafe", "good")
_DRAIN = [sys.executable, "-m", "torturing.light", "drain", "--spool"]
_WAYS = {"killed": KILL_CALLER, "ENOSPC": errno.ENOSPC, "EIO": errno.EIO, "EROFS": errno.EROFS}


def attempt(folder: Path, at: int, how: str, isolation: str) -> tuple[list[Call], list[str]]:
    """What the sanitizer's processes did, and what does not hold when step `at` of theirs ends so (0: none does)."""
    root = new_spool(folder / f"{at}-{how}", isolation=isolation, settle_seconds=0.0, max_attempts=3)
    dropped = [drop(root, kind, i, mtime=1000.0 + i) for i, kind in enumerate(KINDS)]
    said = folder / "said"
    calls: list[Call] = []
    ended = stepping.run(lambda: _drain(root, said), str(root), _decider(calls, at, _WAYS[how]))
    wrong = []
    words = said.read_text()
    if ended.exit_code != 0 and not (ended.exit_code == 3 and how != "killed" and "what is in hand was put back" in words):
        wrong.append(f"it ended with {ended.exit_code}: {words}")
    wrong += [f"at once: {what}" for what in oracle.check(root, dropped, at_rest=False)]
    done = subprocess.run([*_DRAIN, str(root)], capture_output=True, text=True, check=False)
    if done.returncode:
        wrong.append(f"the next drain ends with {done.returncode}: {done.stderr}")
    wrong += [f"in the end: {what}" for what in oracle.check(root, dropped, at_rest=True)]
    shutil.rmtree(root)
    return calls, [f"{how} at step {at} ({calls[at - 1] if len(calls) >= at else 'never reached'}): {what}" for what in wrong]


def _drain(root: Path, said: Path) -> int:
    os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    os.execv(_DRAIN[0], [*_DRAIN, str(root)])


def _decider(calls: list[Call], at: int, decision: int) -> Callable[[Call], Decision]:
    daemon = 0

    def decide(call: Call) -> Decision:
        nonlocal daemon
        daemon = daemon or call.pid  # nobody comes before it
        if call.pid == daemon:
            return None
        calls.append(call)
        return decision if len(calls) == at else None

    return decide


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/torture readers", description=__doc__)
    parser.add_argument("--isolation", choices=("submission", "batch"), default="submission")
    options = parser.parse_args()
    started, problems = time.monotonic(), []
    with tempfile.TemporaryDirectory(prefix="fifomark-readers-", dir=in_memory()) as folder:
        steps, wrong = attempt(Path(folder), 0, "killed", options.isolation)
        assert not wrong, wrong
        assert len(steps) > len(KINDS), steps
        for at in range(1, len(steps) + 1):
            for how in _WAYS:
                problems += attempt(Path(folder), at, how, options.isolation)[1]
    print("\n".join(problems[:50]), end="\n" if problems else "")
    print(f"{len(steps)} steps, {len(steps) * len(_WAYS)} runs, {time.monotonic() - started:.0f} s: {len(problems)} things do not hold")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
