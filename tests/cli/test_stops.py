"""Signals that ask a command to end while it works."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import builders
import pytest

from fifomark.cli.drain import drain
from fifomark.daemon import service
from fifomark.daemon.new import make_spool

STOPS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]

# A command that waits in the middle of its work, for ever, and says so. Three signals come at once.
WAITING = """
import os, signal, sys
from fifomark.cli.main import main
from fifomark.sanitizer.writer_client import WriterClient
def receive(self, request, seconds):
    print("waiting", flush=True)
    while True: signal.pause()
WriterClient.receive = receive
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(autouse=True)
def _nothing_is_ignored() -> Iterator[None]:
    """Whoever runs the tests may ignore signals (nohup, `&` in a script), and what they start would, too."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in STOPS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@contextmanager
def waiting(*arguments: str, folder: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", WAITING, *arguments]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "waiting\n"
            yield process
        finally:
            process.kill()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a.pt").write_bytes(builders.logistic())
    return tmp_path


@pytest.mark.parametrize("number", STOPS)
def test_sanitize_leaves_nothing_half_written_and_says_which_signal_it_was(folder: Path, number: signal.Signals) -> None:
    with waiting("sanitize", "a.pt", "-o", "clean.pt", folder=folder) as process:
        assert len(os.listdir(folder)) == 2  # the clean file under its temporary name
        for _ in range(3):
            process.send_signal(number)
        assert process.wait(timeout=60) == 128 + number
        assert process.communicate() == ("", "")
    assert os.listdir(folder) == ["a.pt"]


@pytest.mark.parametrize("number", STOPS)
def test_inspect_says_which_signal_it_was(folder: Path, number: signal.Signals) -> None:
    with waiting("inspect", "a.pt", folder=folder) as process:
        process.send_signal(number)
        assert process.wait(timeout=60) == 128 + number


def test_a_signal_that_the_caller_ignores_stays_ignored(folder: Path) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    with waiting("inspect", "a.pt", folder=folder) as process:
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 128 + signal.SIGTERM


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_drain_that_is_stopped_says_by_which_signal(tmp_path: Path, number: signal.Signals, monkeypatch: pytest.MonkeyPatch) -> None:
    make_spool(tmp_path / "spool")
    (tmp_path / "spool/incoming/a.pt").write_bytes(builders.logistic())
    honest = service.run

    def stopped(root: Path, mode: str, on_turn: object, **more: object) -> service.Ending:
        return honest(root, "drain", lambda daemon: os.kill(os.getpid(), number) if not daemon.idle else None)

    monkeypatch.setattr(service, "run", stopped)
    assert drain(tmp_path / "spool") == 128 + number
