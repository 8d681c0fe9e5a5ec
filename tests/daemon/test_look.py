"""A spool seen from outside, by whoever looks at whatever moment."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from daemon_bench import Bench

from fifomark.daemon.look import look, open_ledger
from fifomark.daemon.new import make_spool
from fifomark.ledger.ledger import Ledger
from fifomark.spool.layout import Layout


def test_a_ledger_that_the_daemon_is_about_to_make_holds_nothing_yet(tmp_path: Path) -> None:
    make_spool(tmp_path / "spool")
    layout = Layout(tmp_path / "spool")
    with closing(sqlite3.connect(layout.ledger)) as db:
        db.execute("PRAGMA journal_mode = WAL")  # its first step
    assert open_ledger(layout) is None
    assert set(look(tmp_path / "spool").states.values()) == {0}
    Ledger(layout.ledger).close()
    ledger = open_ledger(layout)
    assert ledger is not None
    ledger.close()


def test_what_is_left_alone_is_told_also_in_the_folders_of_rubrics(bench: Bench) -> None:
    (bench.root / "incoming/digits").mkdir()
    for name in (".pt", "x.part", "digits/y.tmp", "ada.pt"):
        (bench.root / "incoming" / name).write_bytes(b"x")
    assert set(look(bench.root).uploads) == {".pt", "x.part", "digits/y.tmp"}
