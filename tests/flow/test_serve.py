"""The daemon as a process: dropping files, a second daemon, signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import builders
import pytest

FIFOMARK = str(Path(sys.executable).parent / "fifomark")


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    subprocess.run([FIFOMARK, "init", str(tmp_path / "spool")], check=True, capture_output=True)
    settings = tmp_path / "spool/fifomark.toml"
    settings.write_text(settings.read_text().replace('slots = "auto"', 'slots = ["cpu"]'))
    return tmp_path / "spool"


@pytest.fixture
def serving(spool: Path) -> Iterator[subprocess.Popen[str]]:
    daemon = subprocess.Popen([FIFOMARK, "serve", "--spool", str(spool)], stderr=subprocess.PIPE, text=True)
    until(lambda: status(spool)["daemon"] is not None)
    yield daemon
    daemon.kill()
    daemon.communicate()


def until(holds: object, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not holds():  # type: ignore[operator]
        assert time.monotonic() < end, "it does not come true"
        time.sleep(0.02)


def status(spool: Path) -> dict[str, dict[str, object]]:
    done = subprocess.run([FIFOMARK, "status", "--json", "--spool", str(spool)], capture_output=True, check=True)
    answer: dict[str, dict[str, object]] = json.loads(done.stdout)
    return answer


def test_a_dropped_file_is_marked_while_the_daemon_watches(spool: Path, serving: subprocess.Popen[str]) -> None:
    (spool / "incoming/ada.pt").write_bytes(builders.logistic())
    until(lambda: (spool / "done/00000001-ada.pt").exists())
    (spool / "incoming/eve.pt").write_bytes(builders.unsafe(spool.parent / "RAN"))
    until(lambda: (spool / "rejected/00000002-eve.pt.quarantined").exists())
    assert not (spool.parent / "RAN").exists()
    serving.send_signal(signal.SIGTERM)
    assert serving.wait(timeout=30) == 0
    assert status(spool)["daemon"] is None


def test_a_second_daemon_is_refused_and_the_first_is_named(spool: Path, serving: subprocess.Popen[str]) -> None:
    for verb in ("serve", "drain"):
        second = subprocess.run([FIFOMARK, verb, "--spool", str(spool)], capture_output=True, text=True, timeout=60, check=False)
        assert second.returncode == 2
        assert f"serve, process {serving.pid}" in second.stderr
    assert serving.poll() is None


def test_a_daemon_killed_at_work_loses_nothing(spool: Path, serving: subprocess.Popen[str]) -> None:
    for i in range(5):
        (spool / f"incoming/m{i}.pt").write_bytes(builders.logistic(i))
    until(lambda: os.listdir(spool / "evaluating"))
    serving.kill()
    serving.wait()
    subprocess.run([FIFOMARK, "drain", "--spool", str(spool)], check=True, timeout=120)
    assert sorted(path.name for path in (spool / "done").glob("*.pt")) == [f"{i + 1:08d}-m{i}.pt" for i in range(5)]
    assert len(list((spool / "done").glob("*.json"))) == 5


def test_the_workers_die_with_their_daemon(spool: Path, serving: subprocess.Popen[str]) -> None:
    (spool / "incoming/ada.pt").write_bytes(builders.logistic())
    until(lambda: (spool / "done/00000001-ada.pt").exists())
    workers = children(serving.pid)
    assert len(workers) >= 2
    serving.kill()
    serving.wait()
    until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in workers), seconds=10)


def children(pid: int) -> list[int]:
    import psutil

    return [child.pid for child in psutil.Process(pid).children(recursive=True)]


def test_a_file_that_is_still_written_is_left_until_it_is_closed(spool: Path, serving: subprocess.Popen[str]) -> None:
    body = builders.logistic()
    with (spool / "incoming/slow.pt").open("wb") as upload:
        upload.write(body[:100])
        upload.flush()
        (spool / "incoming/quick.pt").write_bytes(body)
        until(lambda: (spool / "done/00000001-quick.pt").exists())
        assert (spool / "incoming/slow.pt").exists()
        upload.write(body[100:])
    until(lambda: (spool / "done/00000002-slow.pt").exists())


def test_drain_leaves_what_is_still_written_and_says_so(spool: Path) -> None:
    with (spool / "incoming/slow.pt").open("wb") as upload:
        upload.write(b"half")
        upload.flush()
        done = subprocess.run([FIFOMARK, "drain", "--spool", str(spool)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0
    assert "'slow.pt' is still being written" in done.stderr


def test_a_serving_daemon_does_what_it_is_asked(spool: Path, serving: subprocess.Popen[str]) -> None:
    for verb in (["pause"], ["resume"], ["retry", "1"]):
        done = subprocess.run([FIFOMARK, *verb, "--spool", str(spool)], capture_output=True, text=True)
        assert done.returncode == (1 if verb[0] == "retry" else 0), done.stderr
    assert "no submission has this id" in done.stderr
