"""Control groups of both versions, as files in a folder of the test's own."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest

from fifomark.workers import machine

GIB = 1 << 30


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


NEW = {"proc/self/cgroup": "0::/system.slice/fifomark.service\n"}
OLD = {"proc/self/cgroup": "4:memory:/docker/12ab\n3:cpu,cpuacct:/docker/12ab\n1:name=systemd:/x\n"}
UNIT = "sys/fs/cgroup/system.slice/fifomark.service"


@pytest.fixture
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))


@pytest.mark.parametrize(
    ("files", "count"),
    [
        ({}, 8),
        (NEW | {f"{UNIT}/cpu.max": "max 100000\n"}, 8),
        (NEW | {f"{UNIT}/cpu.max": "250000 100000\n"}, 3),
        (NEW | {f"{UNIT}/cpu.max": "max 100000\n", "sys/fs/cgroup/system.slice/cpu.max": "200000 100000\n"}, 2),
        (NEW | {f"{UNIT}/cpu.max": "10000 100000\n"}, 1),
        (OLD | {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"}, 8),
        (OLD | {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "400000\n", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"}, 4),
    ],
)
def test_no_more_cores_are_used_than_the_quota_is_worth(tmp_path: Path, eight_cores: None, files: dict[str, str], count: int) -> None:
    assert machine.cores(write(tmp_path, files)) == tuple(range(count))


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        (NEW | {f"{UNIT}/memory.max": "max\n"}, None),
        (NEW | {f"{UNIT}/memory.max": "max\n", "sys/fs/cgroup/memory.max": "1000000\n"}, 1_000_000),
        (OLD | {"sys/fs/cgroup/memory/docker/12ab/memory.limit_in_bytes": "2000000\n"}, 2_000_000),
        (OLD | {"sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n"}, None),
    ],
)
def test_the_memory_is_what_the_control_groups_leave(tmp_path: Path, files: dict[str, str], limit: int | None) -> None:
    assert machine.memory_bytes(write(tmp_path, files)) == (limit or psutil.virtual_memory().total)


@pytest.mark.parametrize(
    ("files", "kills"),
    [
        ({}, 0),
        ({"proc/vmstat": "nr_free_pages 5\noom_kill 7\n"}, 7),
        (NEW | {f"{UNIT}/memory.events": "low 0\noom 3\noom_kill 2\n", "proc/vmstat": "oom_kill 7\n"}, 2),
        (OLD | {"sys/fs/cgroup/memory/docker/12ab/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 4\n"}, 4),
    ],
)
def test_the_kills_for_want_of_memory_are_counted_by_the_kernel(tmp_path: Path, files: dict[str, str], kills: int) -> None:
    assert machine.oom_kills(write(tmp_path, files)) == kills


def test_what_this_machine_says_can_be_read() -> None:
    assert set(machine.cores()) <= os.sched_getaffinity(0)
    assert 0 < machine.memory_bytes() <= psutil.virtual_memory().total
    assert machine.oom_kills() >= 0


def test_a_kill_is_laid_at_the_right_door(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = 3
    monkeypatch.setattr(machine, "oom_kills", lambda: counted)
    watch = machine.OomWatch()
    assert not watch.struck(100)
    counted = 4
    watch.look(101)
    assert watch.struck(103)  # it took a while to be gone
    assert not watch.struck(200)
