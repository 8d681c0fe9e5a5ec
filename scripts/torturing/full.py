"""Drains a spool on a real disk that is too small, has too few inodes, or is read-only, and once more when that is mended.

The disk is a tmpfs in a mount namespace of our own (unshare(1), which needs root or unprivileged user namespaces). Marking costs nothing
here; the sanitizer and everything else is the real thing.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from torturing import oracle
from torturing.spools import Dropped, drop, new_spool

KINDS = ("good", "unsafe", "misfit", "slow", "good", "good", "broken", "good")
_COLUMNS = 10_000  # 120 KB of weights a file
_LIGHT = [sys.executable, "-m", "torturing.light"]


class Disk:
    """A tmpfs at `at`."""

    def __init__(self, at: Path) -> None:
        self.at = at
        at.mkdir(parents=True)
        subprocess.run(["mount", "-t", "tmpfs", "none", str(at)], check=True)

    def set(self, options: str) -> None:
        """Change it: "size=4m", "nr_inodes=50", "ro"."""
        subprocess.run(["mount", "-o", f"remount,{options}", str(self.at)], check=True)

    def used(self) -> tuple[int, int]:
        """KiB and inodes."""
        found = os.statvfs(self.at)
        return (found.f_blocks - found.f_bfree) * found.f_frsize >> 10, found.f_files - found.f_ffree

    def gone(self) -> None:
        subprocess.run(["umount", str(self.at)], check=True)


def trial(folder: Path, limit: str, spare: int) -> tuple[str, list[str]]:
    """A spool with `spare` KiB or inodes more than what was dropped takes; "ro" has none to be spared. How the first drain ended, and what
    does not hold."""
    disk = Disk(folder / f"{limit}-{spare}")
    root = new_spool(disk.at / "spool", settle_seconds=0.0, max_attempts=3)
    dropped = [drop(root, kind, i, mtime=1000.0 + i, columns=_COLUMNS) for i, kind in enumerate(KINDS)]
    kilobytes, inodes = disk.used()
    disk.set({"size": f"size={kilobytes + spare}k", "inodes": f"nr_inodes={inodes + spare}", "ro": "ro"}[limit])
    wrong, how = _starved(root, dropped)
    disk.set({"size": "size=64m", "inodes": "nr_inodes=10000", "ro": "rw"}[limit])
    done = _drain(root)
    if done.returncode != 0:
        wrong.append(f"the next drain ends with {done.returncode}: {done.stderr}")
    wrong += [f"in the end: {what}" for what in oracle.check(root, dropped, at_rest=True)]
    disk.gone()
    return how, [f"{limit}, {spare} to spare ({how}): {what}" for what in wrong]


def _starved(root: Path, dropped: list[Dropped]) -> tuple[list[str], str]:
    done = _drain(root)
    wrong = []
    if done.returncode not in (0, 2, 3) or "Traceback" in done.stderr or (done.returncode and "fifomark: " not in done.stderr):
        wrong.append(f"it ended with {done.returncode}: {done.stderr}")
    wrong += [f"at once: {what}" for what in oracle.check(root, dropped, at_rest=False)]
    return wrong, done.stderr.strip().rpartition("/spool/")[2] if done.returncode else "well"


def _drain(root: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*_LIGHT, "drain", "--spool", str(root)], capture_output=True, text=True, timeout=120, check=False)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/torture full", description=__doc__)
    parser.add_argument("--step", type=int, default=64, help="KiB between one disk and the next (default: 64)")
    return parser.parse_args()


def main() -> int:
    options = parsed()
    if os.environ.get("TORTURING_UNSHARED") != "1":
        again = [sys.executable, "-m", "torturing.full", *sys.argv[1:]]
        return subprocess.run(["unshare", "-rm", *again], env={**os.environ, "TORTURING_UNSHARED": "1"}, check=False).returncode
    started = time.monotonic()
    endings: Counter[str] = Counter()
    problems: list[str] = []
    with tempfile.TemporaryDirectory(prefix="fifomark-full-") as folder:
        needed = sum(len(KINDS) * size for size in (40_000 * 3 >> 10, 40)) + 512
        trials = [
            ("ro", 0),
            *(("size", spare) for spare in range(0, needed, options.step)),
            *(("inodes", spare) for spare in range(0, 28, 2)),
        ]
        for limit, spare in trials:
            how, wrong = trial(Path(folder), limit, spare)
            endings[how] += 1
            problems += wrong
    for how, count in endings.most_common():
        print(f"{count:4} {how}")
    print("\n".join(problems[:50]), end="\n" if problems else "")
    print(f"{len(trials)} disks, {time.monotonic() - started:.0f} s: {len(problems)} things do not hold")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
