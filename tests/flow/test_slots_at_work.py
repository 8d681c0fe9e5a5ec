"""Slots of a daemon as a process: one that cannot be had, and workers that outlive nobody."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import builders
import psutil
import pytest

from fifomark.workers.gpus import installed

pytestmark = pytest.mark.skipif(bool(installed()), reason="there is a GPU here: cuda:0 would not fail")
FIFOMARK = str(Path(sys.executable).parent / "fifomark")


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    subprocess.run([FIFOMARK, "init", str(tmp_path / "spool")], check=True, capture_output=True)
    return tmp_path / "spool"


def with_slots(spool: Path, slots: str) -> None:
    settings = spool / "fifomark.toml"
    settings.write_text(settings.read_text().replace('slots = "auto"', f"slots = {slots}"))


def until(holds: Callable[[], object], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it does not come true"
        time.sleep(0.05)


def drained(spool: Path, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    return subprocess.run([FIFOMARK, "drain", "--spool", str(spool)], capture_output=True, text=True, timeout=timeout, check=False)


def test_a_gpu_that_is_not_there_is_named_and_what_came_is_marked_on_the_other_slots(spool: Path) -> None:
    with_slots(spool, '["cuda:0", "cpu"]')
    for i in range(3):
        (spool / f"incoming/m{i}.pt").write_bytes(builders.logistic(i))
    daemon = subprocess.Popen([FIFOMARK, "serve", "--spool", str(spool)], stderr=subprocess.DEVNULL)
    try:
        until(lambda: len(list((spool / "done").glob("*.json"))) == 3)
        seen = subprocess.run([FIFOMARK, "status", "--json", "--spool", str(spool)], capture_output=True, check=True)
        gpu, cpu = json.loads(seen.stdout)["slots"]
    finally:
        daemon.kill()
        daemon.wait()
    assert (gpu["name"], gpu["state"]) == ("cuda:0", "out of service")
    assert gpu["why"] == "its worker cannot be set up: this slot is a GPU, but torch sees none"
    assert (cpu["name"], cpu["why"]) == ("cpu", None)
    assert list((spool / "failed").iterdir()) == []


def test_drain_ends_where_only_a_slot_that_is_out_of_service_could_go_on_and_says_which(spool: Path) -> None:
    with_slots(spool, '["cuda:0", "cpu"]\ncpu_memory_mib = 200')
    (spool / "incoming/ada.pt").write_bytes(builders.logistic())
    done = drained(spool)
    assert done.returncode == 3
    assert "no slot is left to go on with: cuda:0: its worker cannot be set up" in done.stderr
    assert [path.name for path in (spool / "evaluating").glob("*.pt")] == ["00000001-ada.pt"]  # it waits, and has not failed


def test_workers_at_work_die_with_a_daemon_that_is_killed(spool: Path) -> None:
    with_slots(spool, '["cpu"]')
    (spool / "incoming/ada.pt").write_bytes(builders.logistic())
    daemon = subprocess.Popen([FIFOMARK, "serve", "--spool", str(spool)], stderr=subprocess.DEVNULL)
    try:
        until(lambda: list((spool / "evaluating").glob("*.pt")))
        until(lambda: len(psutil.Process(daemon.pid).children(recursive=True)) >= 3)
        workers = psutil.Process(daemon.pid).children(recursive=True)
    finally:
        daemon.send_signal(signal.SIGKILL)
        daemon.wait()
    until(lambda: not any(worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE for worker in workers), seconds=20)
