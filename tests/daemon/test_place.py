"""Where a spool may lie."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from daemon_bench import Bench

from fifomark.core.errors import SpoolError
from fifomark.core.states import State
from fifomark.daemon import service
from fifomark.ledger.ledger import Ledger


def test_a_ledger_on_a_network_file_system_is_refused_with_a_way_out(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "over_network", lambda path: True)
    with pytest.raises(SpoolError, match=r"network file system.*ln -s"):
        service.run(bench.root, "drain")


def test_a_ledger_may_be_a_link_to_another_disk(bench: Bench, tmp_path: Path) -> None:
    bench.ledger.close()
    (tmp_path / "disk").mkdir()
    os.replace(bench.spool.layout.ledger, tmp_path / "disk/ledger.sqlite3")
    bench.spool.layout.ledger.symlink_to(tmp_path / "disk/ledger.sqlite3")
    bench.start()
    bench.drop("ada.pt")
    bench.drain()
    assert (tmp_path / "disk/ledger.sqlite3-wal").exists()
    reader = Ledger(bench.spool.layout.ledger, read_only=True)
    assert reader.counts()[State.DONE] == 1
    reader.close()
