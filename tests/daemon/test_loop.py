"""The loop around the turns: when it waits, and when it must not."""

from __future__ import annotations

import time

from daemon_bench import Bench

from fifomark.core.states import State
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
