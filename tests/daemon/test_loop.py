"""The loop around the turns: when it waits, and when it must not."""

from __future__ import annotations

import os
import signal
import time

import pytest
from daemon_bench import Bench

from fifomark.core.errors import UsageError
from fifomark.core.states import State
from fifomark.daemon.daemon import Daemon
from fifomark.daemon.notify import Notifier
from fifomark.daemon.service import Loop
from fifomark.daemon.signals import Signals


def test_a_lone_file_goes_from_step_to_step_without_waiting_for_the_next_look_at_incoming(bench: Bench) -> None:
    settings = bench.root / "fifomark.toml"
    settings.write_text("rescan_seconds = 60.0\n" + settings.read_text())
    bench.start()
    bench.drop("ada.pt")
    started = time.monotonic()
    with Signals() as signals:
        Loop(bench.daemon, "drain", lambda daemon: None, signals, Notifier({})).run()
    assert bench.ledger.get(1).state is State.DONE
    assert time.monotonic() - started < 30


def test_a_drain_that_is_told_of_a_wrong_rubric_stops_there_instead_of_waiting_for_ever(bench: Bench) -> None:
    def break_it(daemon: Daemon) -> None:
        (bench.root / "rubrics/bad").mkdir(exist_ok=True)
        (bench.root / "rubrics/bad/rubric.toml").write_text("half")
        os.kill(os.getpid(), signal.SIGHUP)

    bench.drop("ada.pt")
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whoever runs the tests may ignore it
    try:
        with Signals() as signals, pytest.raises(UsageError, match=r"rubric\.toml"):
            Loop(bench.daemon, "drain", break_it, signals, Notifier({})).run()
    finally:
        signal.signal(signal.SIGHUP, before)


def test_what_is_seen_in_slices_is_started_in_the_order_of_all(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """And a drain does not end before the whole of incoming/ was looked at."""
    monkeypatch.setattr("fifomark.daemon.lookout.SLICE_SECONDS", 1e-9)
    monkeypatch.setattr("fifomark.spool.intake._AT_ONCE", 1)
    for i in range(6):
        bench.drop(f"{i}.pt", mtime=1000.0 - i)
    with Signals() as signals:
        Loop(bench.daemon, "drain", lambda daemon: None, signals, Notifier({})).run()
    assert [line for line in bench.seen if line.startswith("Sanitize")] == [f"SanitizeTicket {i}.pt" for i in reversed(range(6))]
    assert bench.ledger.counts()[State.DONE] == 6
