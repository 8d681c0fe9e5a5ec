"""What is said on stderr, and how."""

from __future__ import annotations

import errno
import io
import json
import logging
import os
import sys
from pathlib import Path

import pytest
from daemon_bench import UNSAFE, Bench

from fifomark.core.outcome import Lost
from fifomark.daemon.logs import logging_to_stderr
from fifomark.daemon.telling import Telling
from fifomark.settings import LogFormat

HOSTILE = os.fsdecode(b"\x1b[31mred\n<0>\xff.pt")


def lines(bench: Bench, format: LogFormat, capsys: pytest.CaptureFixture[str]) -> list[str]:
    telling = Telling(bench.ledger)
    bench.bad["eve.pt"] = UNSAFE
    bench.outcomes["lost.pt"] = Lost(how="killed by SIGKILL")
    for name in (HOSTILE, "eve.pt", "lost.pt"):
        bench.drop(name)
    with logging_to_stderr(format, logging.INFO):
        for _ in range(30):
            bench.tick()
            telling.tell()
    return capsys.readouterr().err.splitlines()


def test_every_move_is_one_line_with_id_name_state_and_reason(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    told = lines(bench, LogFormat.TEXT, capsys)
    moves = bench.ledger.history.last()
    assert len(told) == moves >= 12
    id = next(s.id for s in bench.ledger.recent(9) if s.name == HOSTILE)
    mine = [line.split(" ", 1)[1].strip() for line in told if f" {id:08d} " in line]
    name = r"\x1b[31mred\n<0>\udcff.pt"
    assert mine == [
        f"INFO    {id:08d} {name}: queued",
        f"INFO    {id:08d} {name}: sanitizing",
        f"INFO    {id:08d} {name}: sanitized",
        f"INFO    {id:08d} {name}: evaluating (cpu:0)",
        f"INFO    {id:08d} {name}: done clean 80/100",
    ]
    assert any("eve.pt: rejected unsafe loading it would call posix.system" in line for line in told)
    assert sum("lost.pt: sanitized (the worker was lost: killed by SIGKILL)" in line for line in told) == 2
    assert any("lost.pt: failed" in line and "tried 3 times" in line for line in told)


def test_as_json_every_line_is_an_object(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    told = [json.loads(line) for line in lines(bench, LogFormat.JSON, capsys)]
    ended = next(line for line in told if line.get("state") == "rejected")
    assert (ended["event"], ended["level"], ended["reason"], ended["verdict"]) == ("move", "info", "unsafe", "unsafe")
    assert {line["name"] for line in told} == {r"\x1b[31mred\n<0>\udcff.pt", "eve.pt", "lost.pt"}
    assert all(line["time"].endswith("Z") for line in told)


def test_the_journal_gets_priorities_and_no_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "journal").open("w+") as journal:
        seen = os.fstat(journal.fileno())
        monkeypatch.setattr(sys, "stderr", journal)
        monkeypatch.setenv("JOURNAL_STREAM", f"{seen.st_dev}:{seen.st_ino}")
        with logging_to_stderr(LogFormat.TEXT, logging.INFO):
            log = logging.getLogger("fifomark.test")
            log.info("a")
            log.warning("b")
            try:
                raise ValueError("c")
            except ValueError:
                log.exception("d")
        with logging_to_stderr(LogFormat.JSON, logging.INFO):
            log.error("e")
        journal.seek(0)
        told = journal.read().splitlines()
    assert told[:3] == ["<6>a", "<4>b", "<3>d"]
    assert "<3>ValueError: c" in told
    assert all(line.startswith("<") for line in told)
    assert told[-1].startswith('<3>{"time":')
    monkeypatch.setenv("JOURNAL_STREAM", "1:2")  # stderr was led elsewhere: that is no journal
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with logging_to_stderr(LogFormat.TEXT, logging.INFO):
        log.info("f")
        assert isinstance(sys.stderr, io.StringIO)
        assert sys.stderr.getvalue().endswith("Z INFO    f\n")


def test_a_log_that_cannot_be_written_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []

    class Full(io.StringIO):
        def write(self, text: str) -> int:
            written.append(text)
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sys, "stderr", Full())
    with logging_to_stderr(LogFormat.TEXT, logging.INFO):
        logging.getLogger("fifomark.test").error("lost")
    assert "lost" in written[0]
