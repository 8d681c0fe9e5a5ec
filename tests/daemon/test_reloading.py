from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from daemon_bench import Bench

from fifomark.daemon.reloading import Pools, Reloading
from fifomark.spool.spool import Spool
from fifomark.workers.inline import InlinePool
from fifomark.workers.slots import Slot


@pytest.fixture
def reloading(tmp_path: Path) -> tuple[Bench, Reloading]:
    bench = Bench(tmp_path / "spool", lenient=True)

    def pools(spool: Spool) -> Pools:
        slots = [Slot(name=f"new:{i}", device="cpu", visible="") for i in range(len(spool.settings.slots))]
        return InlinePool(bench.judge, [Slot(name="sanitizer:0", device="cpu", visible="")]), InlinePool(bench.judge, slots)

    return bench, Reloading(bench.daemon, pools)


def test_new_settings_are_in_force_at_once(reloading: tuple[Bench, Reloading]) -> None:
    bench, reload = reloading
    bench.settle("rescan_seconds = 77.0")
    assert reload.reload()
    assert bench.daemon.spool.settings.rescan_seconds == 77
    assert not reload.waits


def test_wrong_settings_leave_the_old_ones_in_force_and_say_so(
    reloading: tuple[Bench, Reloading], caplog: pytest.LogCaptureFixture
) -> None:
    bench, reload = reloading
    before = bench.daemon.spool.settings
    whole = (bench.root / "fifomark.toml").read_text()
    for wrong in (
        "rescan_second = 77.0\n" + whole,
        whole.replace('"digits"', '"nobody"'),
        whole.replace('slots = "auto"', "slots = 5"),
        None,
    ):
        (bench.root / "fifomark.toml").unlink(missing_ok=True)
        if wrong is not None:
            (bench.root / "fifomark.toml").write_text(wrong)
        assert not reload.reload()
        assert bench.daemon.spool.settings == before
        assert reload.problem is not None
        assert "fifomark.toml" in reload.problem
        assert reload.problem in caplog.text
    bench.drop("ada.pt")
    bench.drain()
    (bench.root / "fifomark.toml").write_text(whole)
    assert reload.reload()
    assert reload.problem is None


def test_new_rubrics_are_found_and_a_wrong_one_stops_nobody_else(reloading: tuple[Bench, Reloading]) -> None:
    bench, reload = reloading
    for name in ("good", "bad"):
        shutil.copytree(bench.root / "rubrics/digits", bench.root / "rubrics" / name)
        (bench.root / "incoming" / name).mkdir()
        bench.drop(f"{name}.pt", folder=name)
    (bench.root / "rubrics/bad/rubric.toml").write_text("half")
    bench.tick(9)
    assert bench.places("good.pt") == ["incoming/good"]
    assert reload.reload()
    bench.tick(9)
    assert [row.name for row in bench.ledger.recent(9)] == ["good.pt"]
    assert (bench.root / "incoming/bad/bad.pt").exists()
    assert list(bench.daemon.broken) == ["bad"]


def test_a_rubric_that_is_taken_away_waits_for_its_return(reloading: tuple[Bench, Reloading]) -> None:
    bench, reload = reloading
    shutil.copytree(bench.root / "rubrics/digits", bench.root / "rubrics/extra")
    (bench.root / "incoming/extra").mkdir()
    assert reload.reload()
    (bench.root / "rubrics/extra").rename(bench.root / "aside")
    assert reload.reload()
    bench.drop("ada.pt", folder="extra")
    bench.tick(9)
    assert "extra" in bench.daemon.broken
    (bench.root / "aside").rename(bench.root / "rubrics/extra")
    bench.drain()
    assert bench.ledger.recent(1)[0].state == "done"


def test_new_slots_take_over_once_the_old_ones_are_idle(reloading: tuple[Bench, Reloading]) -> None:
    bench, reload = reloading
    settings = bench.root / "fifomark.toml"
    settings.write_text(settings.read_text().replace('slots = "auto"', 'slots = ["cpu", "cpu"]'))
    busy = bench.daemon.slots.slots()[0]._replace(submission=1)
    idle, bench.slots.slots = bench.slots.slots, lambda: [busy]  # type: ignore[method-assign]
    assert reload.reload()
    reload.swap()
    assert reload.waits
    assert bench.daemon.slots is bench.slots
    bench.slots.slots = idle  # type: ignore[method-assign]
    reload.swap()
    assert not reload.waits
    assert [state.slot.name for state in bench.daemon.slots.slots()] == ["new:0", "new:1"]
    bench.drop("ada.pt")
    bench.drain()
    assert bench.ledger.get(1).slot == "new:0"
