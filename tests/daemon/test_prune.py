"""What is no longer kept goes, and nothing else."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

import pytest
from daemon_bench import UNSAFE, Bench

from fifomark.core.keeping import Pruned
from fifomark.core.outcome import Failed, Reason
from fifomark.core.requests import Request
from fifomark.core.states import State
from fifomark.daemon.control import obey
from fifomark.daemon.fsck import check
from fifomark.daemon.prune import Keeper, plan
from fifomark.daemon.rebuild import rebuild
from fifomark.ledger.ledger import Ledger
from fifomark.settings import Retention

DAY = 86400.0


@pytest.fixture
def ended(bench: Bench) -> Bench:
    """One of each ending, a day apart: 1 done, 2 rejected, 3 failed; a fourth waits."""
    bench.bad["eve.pt"] = UNSAFE
    bench.outcomes["slow.pt"] = Failed(reason=Reason(code="limit-exceeded", message="too long", blame="submitter"))
    for name in ("ada.pt", "eve.pt", "slow.pt"):
        bench.drop(name, body=b"0123456789")
        bench.drain()
        bench.spool.keep_log(bench.ledger.recent(1)[0], "a word\n")
        bench.now += DAY
    bench.ledger.steering.pause("by the test")
    bench.drop("bob.pt")
    bench.tick()
    return bench


def files(bench: Bench) -> list[str]:
    folders = ("done", "rejected", "failed", "originals", "logs", "incoming", "sanitizing", "evaluating")
    return sorted(f"{folder}/{name}" for folder in folders for name in os.listdir(bench.root / folder) if name != "digits")


ALL = [
    "done/00000001-ada.json", "done/00000001-ada.pt", "failed/00000003-slow.json", "failed/00000003-slow.pt", "incoming/bob.pt",
    "logs/00000001-ada.pt.log", "logs/00000002-eve.pt.log", "logs/00000003-slow.pt.log", "originals/00000001-ada.pt.original",
    "originals/00000003-slow.pt.original", "rejected/00000002-eve.json", "rejected/00000002-eve.pt.quarantined",
]  # fmt: skip


def keep(bench: Bench, **rules: object) -> None:
    keeper = Keeper(bench.ledger)
    settings = type(bench.spool.settings)(schema="fifomark.settings/1", retention=Retention(**rules))  # type: ignore[arg-type]
    bench.spool.settings = settings
    while keeper.turn(bench.spool, bench.now):
        pass


@pytest.mark.parametrize(
    ("rules", "left"),
    [
        ({}, [1, 2, 3]),
        ({"older_than_days": 2.5}, [2, 3]),
        ({"older_than_days": 0.5}, []),
        ({"keep": 2}, [2, 3]),
        ({"keep": 0}, []),
        ({"keep": 9}, [1, 2, 3]),
        ({"keep": 2, "older_than_days": 1.5}, [3]),
        ({"max_bytes": 0}, []),
        ({"max_bytes": 1 << 30}, [1, 2, 3]),
    ],
)
def test_files_go_by_age_and_number_and_bytes_and_reports_stay(ended: Bench, rules: dict[str, object], left: list[int]) -> None:
    assert files(ended) == ALL
    keep(ended, **rules)
    gone = [f"{id:08d}" for id in {1, 2, 3} - set(left)]
    assert files(ended) == [name for name in ALL if name.endswith(".json") or not any(id in name for id in gone)]
    assert [ended.ledger.get(id).pruned for id in (1, 2, 3)] == [Pruned.NOTHING if id in left else Pruned.FILES for id in (1, 2, 3)]
    assert list(check(ended.spool.layout, ended.ledger)) == []
    ended.restart()
    assert not ended.ledger.unfinished()


def test_reports_go_only_where_that_is_asked_for(ended: Bench) -> None:
    keep(ended, keep=0)
    keep(ended, keep=0, reports=True)
    assert files(ended) == ["incoming/bob.pt"]
    assert {ended.ledger.get(id).state for id in (1, 2, 3)} == {State.DONE, State.REJECTED, State.FAILED}
    assert list(check(ended.spool.layout, ended.ledger)) == []


def test_by_bytes_what_was_submitted_goes_before_any_clean_file(ended: Bench) -> None:
    total = ended.spool.kept_bytes()
    keep(ended, max_bytes=total - 1)
    assert "originals/00000001-ada.pt.original" not in files(ended)
    assert len(files(ended)) == len(ALL) - 2  # the first one's original and log
    keep(ended, max_bytes=total - 30)
    assert ended.ledger.get(1).pruned is Pruned.SUBMITTED
    assert ended.ledger.get(2).pruned is Pruned.SUBMITTED
    assert {"done/00000001-ada.pt", "failed/00000003-slow.pt"} <= set(files(ended))
    assert ended.spool.kept_bytes() <= total - 30


def test_a_plan_says_what_it_would_free(ended: Bench) -> None:
    before = ended.spool.kept_bytes()
    doomed = plan(ended.spool, ended.ledger, Retention(keep=1, max_bytes=0), ended.now)
    keep(ended, keep=1, max_bytes=0)
    assert sum(one.bytes for one in doomed) == before - ended.spool.kept_bytes()
    assert plan(ended.spool, ended.ledger, Retention(keep=1, max_bytes=0), ended.now) == []


def test_what_has_not_ended_is_never_pruned(ended: Bench) -> None:
    ended.ledger.steering.pause(None)
    said = obey(ended.spool, ended.ledger, Request(verb="prune", ids=(4, 5), stage=Pruned.REPORT), ended.now)
    assert [result.done for result in said.results] == [False, False]
    assert "only what has ended" in said.results[0].message
    assert not ended.ledger.retention.prune(4, Pruned.FILES, ended.now)
    ended.drain()
    assert ended.ledger.get(4).state is State.DONE


def test_what_was_pruned_cannot_be_tried_again(ended: Bench) -> None:
    keep(ended, keep=0)
    (result,) = obey(ended.spool, ended.ledger, Request(verb="retry", ids=(2,)), ended.now).results
    assert not result.done
    assert "no longer kept" in result.message


def test_a_crash_between_the_intent_and_the_files_is_finished_by_the_next_start(ended: Bench) -> None:
    with ended.ledger.batch():
        assert ended.ledger.retention.prune(1, Pruned.FILES, ended.now)
    ended.restart()
    assert [name for name in files(ended) if "00000001" in name] == ["done/00000001-ada.json"]
    assert not ended.ledger.get(1).moving
    assert ended.ledger.get(1).state is State.DONE


def test_a_file_that_cannot_be_removed_stops_nothing(
    ended: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    unlink = os.unlink

    def stubborn(path: str | Path, **more: object) -> None:
        if str(path).endswith("ada.pt"):
            raise PermissionError(1, "Operation not permitted")
        unlink(path, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "unlink", stubborn)
    keep(ended, keep=0)
    assert "ada.pt cannot be removed" in caplog.text
    assert [problem.path for problem in check(ended.spool.layout, ended.ledger)] == ["done/00000001-ada.pt"]


def test_attempts_and_history_outlive_the_files(ended: Bench) -> None:
    keep(ended, keep=0, reports=True)
    assert ended.ledger.attempts.used("digits", "ada", ["done"]) == 1
    assert [row.name for row in ended.ledger.recent(9)] == ["slow.pt", "eve.pt", "ada.pt"]
    notes = [move.note for move in ended.ledger.history.after(0) if move.submission == 1]
    assert notes[-1] == "pruned: report"


def test_a_ledger_that_is_made_again_knows_that_only_reports_are_kept(ended: Bench) -> None:
    keep(ended, keep=1)
    ended.ledger.close()
    list(rebuild(ended.spool, ended.now))
    with closing(Ledger(ended.spool.layout.ledger)) as ledger:
        assert [ledger.get(id).pruned for id in (1, 2, 3)] == [Pruned.FILES, Pruned.FILES, Pruned.NOTHING]
        assert list(check(ended.spool.layout, ledger)) == []


def test_a_folder_that_was_submitted_goes_with_all_that_is_in_it_however_deep(bench: Bench) -> None:
    (bench.root / "incoming/folder.pt").mkdir()
    inner = os.open(bench.root / "incoming/folder.pt", os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("d", dir_fd=inner)
        outer, inner = inner, os.open("d", os.O_RDONLY, dir_fd=inner)
        os.close(outer)
    os.close(inner)
    bench.bad["folder.pt"] = UNSAFE
    bench.drain()
    assert (bench.root / "rejected/00000001-folder.pt.quarantined").is_dir()
    bench.now += DAY
    keep(bench, older_than_days=0.5)
    assert not (bench.root / "rejected/00000001-folder.pt.quarantined").exists()
    assert list(check(bench.spool.layout, bench.ledger)) == []
