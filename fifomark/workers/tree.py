"""A process and all that it started, seen from outside."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import psutil


class Usage(NamedTuple):
    """What a process and all below it have taken: resident bytes now, seconds of CPU so far."""

    resident_bytes: int
    cpu_seconds: float


def below(pid: int) -> list[psutil.Process]:
    """Everything that the process `pid` started, and that these started, as long as it is not gone."""
    found: list[psutil.Process] = []
    ahead = [pid]
    while ahead:
        for child in _children(ahead.pop()):
            with contextlib.suppress(psutil.NoSuchProcess):
                found.append(psutil.Process(child))
                ahead.append(child)
    return found


def usage(pid: int, descendants: Iterable[psutil.Process]) -> Usage:
    """Of `pid` and its `descendants`; nothing once it is gone."""
    resident, cpu = 0, 0.0
    with contextlib.suppress(psutil.Error):
        for process in (psutil.Process(pid), *descendants):
            with contextlib.suppress(psutil.NoSuchProcess), process.oneshot():
                resident += process.memory_info().rss
                cpu += sum(process.cpu_times()[:4])  # its own and its dead children's, user and system
    return Usage(int(resident), cpu)


def kill(processes: Iterable[psutil.Process]) -> None:
    """SIGKILL for each that is still the process it was: a number may have been given to another since."""
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.kill()


def alive(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    return [process for process in processes if _is_alive(process)]


def _is_alive(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def _children(pid: int) -> list[int]:
    """By the kernel's own list: to look through every process of the machine, as psutil does, takes a millisecond for each hundred."""
    threads: list[str] = []
    with contextlib.suppress(OSError):  # it may go at any instant
        threads = os.listdir(f"/proc/{pid}/task")
    found, told = list[int](), False
    for thread in threads:
        with contextlib.suppress(OSError):
            found += map(int, Path(f"/proc/{pid}/task/{thread}/children").read_text().split())
            told = True
    if not told:  # gone, or a kernel that keeps no such lists
        with contextlib.suppress(psutil.Error):
            return [child.pid for child in psutil.Process(pid).children()]
    return found
