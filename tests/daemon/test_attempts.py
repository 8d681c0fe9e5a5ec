"""How often an owner may submit."""

from __future__ import annotations

from pathlib import Path

import pytest
from daemon_bench import UNSAFE, Bench

from fifomark.core.outcome import Failed, Lost, Reason
from fifomark.core.report import Report, decode
from fifomark.core.states import State
from fifomark.core.submission import Submission

LIMIT = Failed(reason=Reason(code="limit-exceeded", message="too slow", blame="submitter"))


def limited(tmp_path: Path, terms: str, slots: int = 1) -> Bench:
    bench = Bench(tmp_path / "limited", slots)
    rubric = bench.root / "rubrics/digits/rubric.toml"
    rubric.write_text(rubric.read_text() + f"\n[attempts]\n{terms}\n")
    bench.restart()
    return bench


def submit(bench: Bench, name: str, mtime: float = 1000.0) -> Report:
    """Drop one, let it end, and give its report."""
    bench.drop(name, mtime)
    bench.drain()
    return report(bench, bench.ledger.named(name)[0].id)


def report(bench: Bench, id: int) -> Report:
    return decode(Path(bench.spool.layout.report(bench.ledger.get(id))).read_bytes())


def test_one_attempt_too_many_is_refused_before_it_costs_anything(tmp_path: Path) -> None:
    bench = limited(tmp_path, "max_total = 2")
    assert [submit(bench, f"ada__{i}.pt").state for i in (1, 2)] == [State.DONE, State.DONE]
    seen = list(bench.seen)
    refused = submit(bench, "ada__3.pt")
    assert refused.state is State.REJECTED
    assert refused.reason == Reason(code="attempts-exhausted", message="2 of 2 attempts are used; there are no more", blame="submitter")
    assert refused.verdict is None
    assert bench.seen == seen
    assert bench.places("ada__3.pt") == ["rejected/00000003-ada__3.json", "rejected/00000003-ada__3.pt.quarantined"]
    assert submit(bench, "bob__1.pt").state is State.DONE


def test_a_day_has_its_own_limit_by_when_a_file_was_received_and_in_the_rubrics_zone(tmp_path: Path) -> None:
    bench = limited(tmp_path, "max_per_day = 1\nday_zone = 'Asia/Tokyo'")
    bench.now = 1_800_025_000.0  # 23:56 in Tokyo on 15 January 2027
    assert submit(bench, "ada__1.pt").state is State.DONE
    refused = submit(bench, "ada__2.pt")
    assert refused.reason.message == (
        "1 of 1 attempts of 2027-01-15 (Asia/Tokyo) are used; submit it again from 2027-01-16 00:00 (Asia/Tokyo) on"
    )
    bench.now += 240
    assert submit(bench, "ada__3.pt").state is State.DONE


def test_a_refusal_for_want_of_attempts_uses_up_none(tmp_path: Path) -> None:
    bench = limited(tmp_path, "max_total = 2\nmax_per_day = 1")
    submit(bench, "ada__1.pt")
    for i in range(5):
        assert submit(bench, f"ada__x{i}.pt").reason.code == "attempts-exhausted"
    bench.now += 86400
    assert submit(bench, "ada__2.pt").state is State.DONE


@pytest.mark.parametrize(("counts", "ends"), [("['done']", State.DONE), ("['done', 'rejected', 'limit-exceeded']", State.REJECTED)])
def test_only_the_endings_that_the_rubric_names_count(tmp_path: Path, counts: str, ends: State) -> None:
    bench = limited(tmp_path, f"max_total = 2\ncounts = {counts}")
    bench.bad["ada__bad.pt"], bench.outcomes["ada__slow.pt"] = UNSAFE, LIMIT
    submit(bench, "ada__bad.pt")
    submit(bench, "ada__slow.pt")
    assert submit(bench, "ada__3.pt").state is ends


def test_what_we_broke_and_what_was_withdrawn_never_counts(tmp_path: Path) -> None:
    bench = limited(tmp_path, "max_total = 1")
    bench.outcomes["ada__lost.pt"] = Lost(how="killed")
    assert submit(bench, "ada__lost.pt").reason.code == "internal-error"
    bench.slots.free = list  # type: ignore[method-assign]
    path = bench.drop("bob__block.pt", 1)
    bench.tick(3)
    withdrawn = bench.drop("ada__gone.pt", 2)
    bench.sanitizers.free = list  # type: ignore[method-assign]
    bench.tick()
    withdrawn.unlink()
    bench.tick()
    assert bench.ledger.named("ada__gone.pt")[0].state is State.WITHDRAWN
    assert not path.exists()
    del bench.slots.free, bench.sanitizers.free
    assert submit(bench, "ada__2.pt").state is State.DONE


def test_what_is_in_hand_is_waited_for_and_others_go_on(tmp_path: Path) -> None:
    """The last attempt may yet turn out not to count: what comes after it is neither refused too early nor let through too soon."""
    bench = limited(tmp_path, "max_total = 1", slots=2)
    bench.outcomes["ada__1.pt"] = Lost(how="killed")
    for i, name in enumerate(("ada__1.pt", "ada__2.pt", "ada__3.pt", "bob__1.pt")):
        bench.drop(name, 1000 + i)
    bench.drain()
    ended = {s.name: s.reason for i in range(1, 5) if (s := bench.ledger.get(i))}
    assert ended == {"ada__1.pt": "internal-error", "ada__2.pt": "marked", "ada__3.pt": "attempts-exhausted", "bob__1.pt": "marked"}
    started = [line.split()[1] for line in bench.seen if line.startswith("Sanitize")]
    assert started.index("bob__1.pt") < started.index("ada__2.pt")


def test_however_many_come_at_once_no_more_are_marked_than_allowed(tmp_path: Path) -> None:
    bench = limited(tmp_path, "max_total = 3", slots=4)
    for i in range(12):
        bench.drop(f"ada__{i:02}.pt", 1000 + i)
    bench.drain()
    assert [bench.ledger.get(i).reason for i in range(1, 13)] == ["marked"] * 3 + ["attempts-exhausted"] * 9


def test_what_is_tried_again_is_still_one_attempt(tmp_path: Path) -> None:
    bench = limited(tmp_path, "max_total = 2")
    bench.bad["ada__1.pt"] = UNSAFE
    submit(bench, "ada__1.pt")
    submit(bench, "ada__2.pt")
    with bench.ledger.batch():
        bench.ledger.move(1, State.QUEUED, bench.now)  # what `retry` does
    assert bench.ledger.attempts.used("digits", "ada", ("done", "rejected"), apart_from=1) == 1
    assert bench.ledger.attempts.used("digits", "ada", ("done", "rejected")) == 1


@pytest.mark.parametrize("state", [State.SANITIZING, State.REJECTED])
def test_a_refusal_that_a_crash_interrupts_is_finished_by_the_next_daemon(tmp_path: Path, state: State) -> None:
    bench = limited(tmp_path, "max_total = 1")
    submit(bench, "ada__1.pt")
    place = bench.spool.place

    def crash(submission: Submission) -> bool:
        if submission.state is state:
            raise KeyboardInterrupt
        return place(submission)

    bench.spool.place = crash  # type: ignore[method-assign]
    bench.drop("ada__2.pt")
    with pytest.raises(KeyboardInterrupt):
        bench.tick()
    seen = list(bench.seen)
    bench.restart()
    bench.drain()
    assert report(bench, 2).reason.code == "attempts-exhausted"
    assert bench.places("ada__2.pt") == ["rejected/00000002-ada__2.json", "rejected/00000002-ada__2.pt.quarantined"]
    assert bench.seen == seen
