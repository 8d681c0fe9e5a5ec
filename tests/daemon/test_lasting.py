"""What has to be fsynced before something else relies on it. scripts/torture faults, which cuts the power, found each of these."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from daemon_bench import WRONG_MODEL, Bench
from test_recovery import Crash, crash_when

from fifomark.core.outcome import Refused
from fifomark.ledger.ledger import Ledger


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The last part of every path that is fsynced, in order."""
    told: list[str] = []
    fsync = os.fsync

    def telling(fd: int) -> None:
        told.append(os.path.basename(os.readlink(f"/proc/self/fd/{fd}")))
        fsync(fd)

    monkeypatch.setattr(os, "fsync", telling)
    return told


def test_the_name_of_a_clean_file_lasts_before_the_ledger_says_that_it_is_there(bench: Bench, log: list[str]) -> None:
    bench.drop("ada.pt")
    sanitized = bench.ledger.sanitized
    bench.ledger.sanitized = lambda *of: log.append("sanitized") or sanitized(*of)  # type: ignore[method-assign,func-returns-value]
    bench.tick()
    log.clear()
    bench.tick()
    assert log.index("evaluating") < log.index("sanitized")


def test_the_removal_of_a_clean_file_lasts_before_the_ledger_says_that_it_is_gone(bench: Bench, log: list[str]) -> None:
    bench.outcomes["ada.pt"] = Refused(findings=(WRONG_MODEL,))
    bench.drop("ada.pt")
    in_place = bench.ledger.in_place
    bench.tick(3)
    bench.ledger.in_place = lambda id: log.append("in place") or in_place(id)  # type: ignore[method-assign,func-returns-value]
    log.clear()
    bench.tick()
    assert {"evaluating", "originals", "rejected"} <= set(log[: log.index("in place")])


def test_what_a_killed_daemon_moved_is_made_to_last_before_the_next_one_builds_on_it(bench: Bench, log: list[str]) -> None:
    bench.drop("ada.pt")
    crash_when(bench, "spool.sync")
    with pytest.raises(Crash):
        bench.drain()
    log.clear()
    bench.restart()
    assert {"incoming", "sanitizing", "evaluating", "done", "rejected", "failed", "originals"} <= set(log)
    bench.drain()


def test_what_a_killed_daemon_committed_is_made_to_last_before_the_next_one_reads_it(tmp_path: Path, log: list[str]) -> None:
    path = tmp_path / "ledger.sqlite3"
    killed = Ledger(path)  # never closed: its journal stays
    with killed.batch():
        pass
    log.clear()
    with Ledger(path):
        assert log[:3] == ["ledger.sqlite3", "ledger.sqlite3-wal", tmp_path.name]
    killed.close()


def test_a_ledger_that_is_a_link_is_made_to_last_where_it_lies(tmp_path: Path, log: list[str]) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "ledger.sqlite3").symlink_to(tmp_path / "disk/real.sqlite3")
    killed = Ledger(tmp_path / "ledger.sqlite3")
    log.clear()
    with Ledger(tmp_path / "ledger.sqlite3"):
        assert log[:3] == ["real.sqlite3", "real.sqlite3-wal", "disk"]
    killed.close()
