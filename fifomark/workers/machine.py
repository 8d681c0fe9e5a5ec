"""What this machine lets us have, control groups obeyed: cores, memory, and whether the out-of-memory killer was here."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from pathlib import Path

import psutil

_ROOT = Path("/")  # tests have another
_STRUCK_SECONDS = 10.0  # what the out-of-memory killer chose may take a while to be gone


def cores(root: Path = _ROOT) -> tuple[int, ...]:
    """The CPU cores that this process may run on; no more of them than the quota of its control group is worth."""
    found = sorted(os.sched_getaffinity(0))
    return tuple(found[: max(1, math.ceil(min(_quotas(root), default=len(found))))])


def memory_bytes(root: Path = _ROOT) -> int:
    """The memory of the machine, or what the control groups leave of it."""
    limits = [words[0] for name in ("memory.max", "memory.limit_in_bytes") for words in _read("memory", name, root)]
    return min([int(psutil.virtual_memory().total), *(int(limit) for limit in limits if limit.isdecimal())])


def oom_kills(root: Path = _ROOT) -> int:
    """How many processes the out-of-memory killer has ended, of our control group where the kernel counts by group."""
    for name in ("memory.events", "memory.oom_control"):
        for words in _read("memory", name, root):
            if "oom_kill" in words:
                return int(words[words.index("oom_kill") + 1])
    with contextlib.suppress(OSError):
        words = (root / "proc/vmstat").read_text().split()
        return int(words[words.index("oom_kill") + 1]) if "oom_kill" in words else 0
    return 0


class OomWatch:
    """Tells the out-of-memory killer's SIGKILL from anyone else's: by the kernel's own count."""

    def __init__(self) -> None:
        self._count, self._rose_at = oom_kills(), -math.inf

    def look(self, now: float) -> None:
        count = oom_kills()
        if count > self._count:
            self._rose_at = now
        self._count = count

    def struck(self, now: float) -> bool:
        """Whether it ended a process of ours a moment ago."""
        self.look(now)
        return now - self._rose_at < _STRUCK_SECONDS


def _quotas(root: Path) -> Iterator[float]:
    for quota, period in (words for words in _read("cpu", "cpu.max", root) if len(words) == 2):
        if quota.isdecimal():
            yield int(quota) / int(period)
    periods = _read("cpu", "cpu.cfs_period_us", root)
    for (quota,), (period,) in zip(_read("cpu", "cpu.cfs_quota_us", root), periods, strict=False):
        if quota.isdecimal():  # -1: none
            yield int(quota) / int(period)


def _read(controller: str, name: str, root: Path) -> Iterator[list[str]]:
    """The words of the files `name` of our control group and of those around it, innermost first; nothing where there are none."""
    for folder in _groups(controller, root):
        with contextlib.suppress(OSError):
            yield (folder / name).read_text().split()


def _groups(controller: str, root: Path) -> Iterator[Path]:
    """Folders of both versions of control groups. In a container the path may be one of the host: the mount's own root stands for it."""
    with contextlib.suppress(OSError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers == "" or controller in controllers.split(","):
                mount = root / "sys/fs/cgroup" / (controller if controllers else "")
                ours = mount / path.strip("/")
                yield from (folder for folder in (ours, *ours.parents) if folder.is_relative_to(mount))
