"""The judge of the crash test sees who was marked too early, and excuses what waits for another slot than the one that it was lost on."""

from __future__ import annotations

from pathlib import Path

import pytest
from torturing.oracle import Event, Row, Spool, overtaken

WRONG = ["2: was marked before one.pt, which was earlier"]


@pytest.mark.parametrize(("slot", "other", "wrong"), [("cpu", "cpu", WRONG), ("cpu#1", "cpu", []), ("cpu#1", "cpu#1", WRONG)])
def test_an_earlier_one_may_wait_for_another_slot_than_it_was_lost_on(slot: str, other: str, wrong: list[str]) -> None:
    rows = {
        name: [Row(id, name, "done", 0, 1, None, (id, name.encode(), id))] for id, name in ((0, "nil.pt"), (1, "one.pt"), (2, "two.pt"))
    }
    events = [
        Event(0, 0.1, "queued"),
        Event(0, 0.2, "sanitizing"),
        Event(0, 0.3, "sanitized"),
        Event(0, 0.4, "evaluating", other),
        Event(1, 1.0, "queued"),
        Event(2, 1.0, "queued"),
        Event(1, 2.0, "sanitizing"),
        Event(2, 2.0, "sanitizing"),
        Event(1, 3.0, "sanitized"),
        Event(1, 4.0, "evaluating", "cpu#1"),
        Event(1, 5.0, "sanitized", "the worker was lost: killed by SIGKILL"),
        Event(2, 6.0, "sanitized"),
        Event(2, 7.0, "evaluating", slot),
    ]
    assert list(overtaken(Spool(Path("spool"), rows, events, set()))) == wrong
