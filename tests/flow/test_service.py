"""The service as systemd, cron and people at a terminal run it: signals, reloading, what systemd hears, and what workers say."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import builders
import msgspec
import psutil
import pytest

from fifomark.daemon.look import look

FIFOMARK = str(Path(sys.executable).parent / "fifomark")

# A model that takes its time: while the file "hold" lies beside the rubric, it does not answer.
MODELS = """
import pathlib, sys, time
from torch import nn

class Net(nn.Linear):
    def __init__(self):
        super().__init__(64, 10)

    def forward(self, x):
        hold = pathlib.Path(__file__).with_name("hold")
        if hold.exists():
            hold.with_name("running").touch()
            print("a word of the model\\x1b[31m", flush=True)
            print("and a complaint", file=sys.stderr)
        while hold.exists():
            time.sleep(0.02)
        return super().forward(x.flatten(1))
"""
RUBRIC = """
[rubric]
schema = "fifomark.rubric/1"
id = "digits"
[task]
type = "multiclass-classification"
num_classes = 10
[model]
factory = "models:Net"
[input]
shape = [1, 8, 8]
[data]
path = "data/digits.npz"
sha256 = "79e28b8c6a2d3ea2abe1dd890a829b93f49b20b4a9f449009735eb1f4965418f"
input = "x_test"
label = "y_test"
"""
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    subprocess.run([FIFOMARK, "init", str(tmp_path / "spool")], check=True, capture_output=True)
    root = tmp_path / "spool"
    settings = root / "fifomark.toml"
    settings.write_text(settings.read_text().replace('slots = "auto"', 'slots = ["cpu"]'))
    (root / "rubrics/digits/rubric.toml").write_text(RUBRIC)
    (root / "rubrics/digits/models.py").write_text(MODELS)
    return root


@pytest.fixture
def start(spool: Path) -> Iterator[Start]:
    """Start `serve` or `drain`, with no signal ignored whoever runs the tests."""
    started = []

    def it(verb: str, *arguments: str, **more: object) -> subprocess.Popen[str]:
        command = [FIFOMARK, verb, "--spool", str(spool), *arguments]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **{"preexec_fn": _hear_all, **more})  # type: ignore[call-overload]
        started.append(process)
        until(lambda: status(spool)["daemon"] is not None)
        return process  # type: ignore[no-any-return]

    yield it
    for process in started:
        process.kill()
        process.communicate()


def _hear_all() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def until(holds: Callable[[], object], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it does not come true"
        time.sleep(0.05)


def status(spool: Path) -> dict[str, object]:
    """What `fifomark status --json` says."""
    return msgspec.to_builtins(look(spool))  # type: ignore[no-any-return]


def drop_two(spool: Path) -> None:
    """Two submissions; to mark them does not come to an end while the file "hold" is there."""
    (spool / "rubrics/digits/hold").touch()
    for name in ("ada.pt", "bob.pt"):
        (spool / "incoming" / name).write_bytes(builders.logistic())


def occupy(spool: Path) -> None:
    """The first of two submissions is being marked."""
    drop_two(spool)
    until((spool / "rubrics/digits/running").exists)


def states(spool: Path) -> dict[str, int]:
    return {state: count for state, count in status(spool)["states"].items() if count}  # type: ignore[attr-defined]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_runs_may_end_and_nothing_new_is_started(spool: Path, start: Start, number: signal.Signals) -> None:
    daemon = start("serve")
    occupy(spool)
    daemon.send_signal(number)
    time.sleep(1)
    assert daemon.poll() is None
    (spool / "rubrics/digits/hold").unlink()
    _, said = daemon.communicate(timeout=60)
    assert daemon.returncode == 0
    assert "1 in hand may end within 60 seconds" in said
    assert ("Ctrl-C again" in said) == (number == signal.SIGINT)
    assert states(spool)["done"] == 1
    assert sum(states(spool).values()) == 2


def test_what_does_not_end_within_the_grace_time_is_put_back_and_costs_no_try(spool: Path, start: Start) -> None:
    settings = spool / "fifomark.toml"
    text = settings.read_text().replace("grace_seconds = 60.0", "grace_seconds = 0.5")
    settings.write_text(text.replace("max_attempts = 3", "max_attempts = 1"))
    daemon = start("serve")
    occupy(spool)
    daemon.send_signal(signal.SIGTERM)
    assert daemon.wait(timeout=30) == 0
    assert set(states(spool)) <= {"queued", "sanitizing", "sanitized"}
    (spool / "rubrics/digits/hold").unlink()
    start("serve")
    until(lambda: len(list((spool / "done").glob("*.json"))) == 2)
    assert states(spool) == {"done": 2}


def test_an_interrupt_twice_stops_at_once(spool: Path, start: Start) -> None:
    daemon = start("serve")
    occupy(spool)
    daemon.send_signal(signal.SIGINT)
    time.sleep(0.7)
    assert daemon.poll() is None
    daemon.send_signal(signal.SIGINT)
    assert daemon.wait(timeout=15) == 0  # the grace time is 60 seconds
    assert "done" not in states(spool)


def test_sigterm_twice_is_once_for_timeout_signals_twice(spool: Path, start: Start) -> None:
    drop_two(spool)
    daemon = start("drain")
    until((spool / "rubrics/digits/running").exists)
    for _ in range(2):
        daemon.send_signal(signal.SIGTERM)
        time.sleep(0.5)
    assert daemon.poll() is None
    (spool / "rubrics/digits/hold").unlink()
    assert daemon.wait(timeout=60) == 128 + signal.SIGTERM
    assert states(spool)["done"] == 1


def test_new_settings_are_taken_up_and_wrong_ones_are_told_in_status_and_log(spool: Path, start: Start) -> None:
    daemon = start("serve", "--log-format", "json")
    settings = spool / "fifomark.toml"
    whole = settings.read_text()
    settings.write_text("rescan_second = 1.0\n" + whole)
    daemon.send_signal(signal.SIGHUP)
    until(lambda: status(spool)["notices"])
    (notice,) = status(spool)["notices"]  # type: ignore[misc]
    assert "did you mean 'rescan_seconds'" in notice
    shown = subprocess.run([FIFOMARK, "status", "--spool", str(spool)], capture_output=True, text=True, check=True).stdout
    assert "note: the settings were changed and are wrong" in shown
    settings.write_text(whole.replace('slots = ["cpu"]', 'slots = ["cpu:1", "cpu:2"]'))
    daemon.send_signal(signal.SIGHUP)
    until(lambda: len(status(spool)["slots"]) == 2)  # type: ignore[arg-type]
    assert status(spool)["notices"] == ()
    (spool / "incoming/ada.pt").write_bytes(builders.logistic())
    until(lambda: states(spool) == {"done": 1})
    daemon.send_signal(signal.SIGTERM)
    _, said = daemon.communicate(timeout=30)
    told = [json.loads(line) for line in said.splitlines()]
    assert any(line["level"] == "error" and "did you mean" in line["message"] for line in told)
    assert [line["state"] for line in told if line.get("event") == "move"][-1] == "done"


def test_a_hang_up_that_is_ignored_stays_ignored(spool: Path, start: Start) -> None:
    daemon = start("serve", preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    (spool / "fifomark.toml").write_text("nonsense")
    daemon.send_signal(signal.SIGHUP)
    time.sleep(1)
    daemon.send_signal(signal.SIGTERM)
    _, said = daemon.communicate(timeout=30)
    assert (daemon.returncode, "nonsense" in said or "settings" in said) == (0, False)


def everything(listening: socket.socket) -> list[str]:
    """What has come so far."""
    heard = []
    with contextlib.suppress(BlockingIOError):
        while True:
            heard.append(listening.recv(4096).decode())
    return heard


@pytest.mark.parametrize(("verb", "code"), [("serve", 0), ("drain", 128 + signal.SIGHUP)])
def test_a_terminal_that_is_gone_stops_what_ran_in_it(spool: Path, verb: str, code: int) -> None:
    settings = spool / "fifomark.toml"
    settings.write_text(settings.read_text().replace("grace_seconds = 60.0", "grace_seconds = 0.0"))
    drop_two(spool)
    child, terminal = pty.fork()
    if child == 0:
        _hear_all()
        os.execv(FIFOMARK, [FIFOMARK, verb, "--spool", str(spool)])
    until((spool / "rubrics/digits/running").exists)
    os.close(terminal)
    ended = []
    until(lambda: ended.append(os.waitpid(child, os.WNOHANG)) or ended[-1][0] == child, seconds=30)  # type: ignore[func-returns-value]
    assert os.waitstatus_to_exitcode(ended[-1][1]) == code
    assert status(spool)["daemon"] is None


def test_systemd_hears_of_readiness_life_reloading_and_the_end(spool: Path, start: Start, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(30)
        daemon = start("serve", env={**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "2000000"})
        time.sleep(3)
        daemon.send_signal(signal.SIGHUP)
        time.sleep(1)
        daemon.send_signal(signal.SIGTERM)
        daemon.wait(timeout=30)
        systemd.setblocking(False)
        heard = everything(systemd)
    kinds = [message.split("\n")[0] for message in heard if not message.startswith("STATUS=")]
    assert kinds[0] == "READY=1"
    assert kinds[-1] == "STOPPING=1" or kinds[-2:] == ["STOPPING=1", "WATCHDOG=1"]
    assert kinds.index("RELOADING=1") + 1 == kinds.index("READY=1", 1)
    assert kinds.count("WATCHDOG=1") >= 3  # every second, though incoming/ is looked at every five
    assert "STATUS=0 waiting, 0 in hand, 0 ended" in heard


def test_a_loop_that_hangs_gives_no_sign_of_life(spool: Path, start: Start, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        daemon = start("serve", env={**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "1000000"})
        daemon.send_signal(signal.SIGSTOP)
        time.sleep(0.2)
        systemd.setblocking(False)
        everything(systemd)
        time.sleep(2)
        with pytest.raises(BlockingIOError):
            systemd.recv(4096)
        daemon.send_signal(signal.SIGCONT)
        systemd.setblocking(True)
        systemd.settimeout(30)
        assert systemd.recv(4096) == b"WATCHDOG=1"


def test_what_a_model_says_is_kept_with_its_submission_for_the_operator_only(spool: Path, start: Start) -> None:
    daemon = start("serve")
    occupy(spool)
    (spool / "rubrics/digits/hold").unlink()
    until(lambda: states(spool) == {"done": 2})
    daemon.send_signal(signal.SIGTERM)
    _, said = daemon.communicate(timeout=30)
    assert "a word" not in said
    assert "complaint" not in said
    log = spool / "logs/00000001-ada.pt.log"
    text = log.read_text()
    assert "a word of the model\\x1b[31m\n" in text
    assert "and a complaint\n" in text
    assert " on cpu\n" in text
    assert (log.stat().st_mode & 0o777, log.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert not (spool / "logs/00000002-bob.pt.log").exists()  # it said nothing


def test_a_drain_on_a_full_disk_says_so_instead_of_waiting(spool: Path) -> None:
    settings = spool / "fifomark.toml"
    settings.write_text("min_free_bytes = 1_000_000_000_000_000\n" + settings.read_text())
    (spool / "incoming/ada.pt").write_bytes(builders.logistic())
    done = subprocess.run([FIFOMARK, "drain", "--spool", str(spool)], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, "fifomark prune" in done.stderr) == (3, True)
    assert states(spool) == {"queued": 1}


def test_a_drain_for_cron_is_silent_where_all_is_well_or_another_holds_the_spool(spool: Path, start: Start) -> None:
    daemon = start("serve")
    command = [FIFOMARK, "drain", "--if-free", "--spool", str(spool)]
    assert _run(command) == (0, "", "")
    held = subprocess.run([command[0], "drain", *command[3:]], capture_output=True, text=True, timeout=60, check=False)
    assert held.returncode == 2
    daemon.send_signal(signal.SIGTERM)
    daemon.wait(timeout=30)
    (spool / "incoming/ada.pt").write_bytes(builders.logistic())
    with (spool / "incoming/slow.pt").open("wb") as upload:
        upload.write(b"half")
        upload.flush()
        assert _run(command) == (0, "", "")
    assert states(spool) == {"done": 1}


def _run(command: list[str]) -> tuple[int, str, str]:
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    return done.returncode, done.stdout, done.stderr


def test_a_daemon_that_waits_costs_next_to_nothing_and_looks_less_often_than_every_second(spool: Path, start: Start) -> None:
    daemon = start("serve")
    (spool / "incoming/ada.pt").write_bytes(builders.logistic())
    until(lambda: states(spool) == {"done": 1})
    time.sleep(3)
    everyone = [psutil.Process(daemon.pid), *psutil.Process(daemon.pid).children(recursive=True)]
    assert len(everyone) >= 4

    def spent() -> tuple[float, int]:
        seconds = sum(sum(process.cpu_times()[:2]) for process in everyone)
        status = Path(f"/proc/{daemon.pid}/task/{daemon.pid}/status").read_text()  # of the loop's own thread
        return seconds, int(status.split("voluntary_ctxt_switches:")[1].split()[0])

    seconds, sleeps = spent()
    time.sleep(12)
    more_seconds, more_sleeps = spent()
    assert more_seconds - seconds < 0.12  # one per cent of a core
    assert more_sleeps - sleeps < 12
