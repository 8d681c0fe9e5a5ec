"""What an operator asks for: done by the command itself where no daemon runs, by the daemon where one does."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from daemon_bench import UNSAFE, WRONG_MODEL, Bench

from fifomark.core.outcome import Failed, Reason, Refused
from fifomark.core.requests import Answer, Request, Verb
from fifomark.core.states import State
from fifomark.daemon import control
from fifomark.spool.requests import ask, pending

SLOW = Reason(code="limit-exceeded", message="it took longer than it may", blame="submitter")


def steer(bench: Bench, verb: Verb, *ids: int) -> Answer:
    return control.obey(bench.spool, bench.ledger, Request(verb=verb, ids=ids), bench.now)


def messages(answer: Answer) -> list[tuple[bool, str]]:
    return [(result.done, result.message) for result in answer.results]


def asked_of_the_daemon(bench: Bench, request: Request) -> Answer:
    answers: list[Answer | None] = []
    asking = threading.Thread(target=lambda: answers.append(ask(bench.spool.layout, request, 60.0)))
    asking.start()
    while asking.is_alive():
        bench.tick()
    (answer,) = answers
    assert answer is not None
    return answer


def admitted(bench: Bench, *names: str) -> None:
    """Waiting, and none of them started."""
    steer(bench, "pause")
    for i, name in enumerate(names):
        bench.drop(name, mtime=100 + i)
    bench.tick()
    steer(bench, "resume")


def test_what_is_held_is_passed_over_until_it_is_released(bench: Bench) -> None:
    admitted(bench, "ada.pt", "b.pt")
    assert messages(steer(bench, "hold", 1)) == [(True, "ada.pt: held")]
    bench.drain()
    assert (bench.ledger.get(1).state, bench.ledger.get(2).state) == (State.HELD, State.DONE)
    bench.restart()
    bench.drain()
    assert bench.ledger.get(1).state is State.HELD, "an operator's hold outlives the daemon"
    steer(bench, "release", 1)
    bench.drain()
    assert bench.ledger.get(1).state is State.DONE


def test_what_is_held_stays_held_when_it_is_replaced(bench: Bench) -> None:
    admitted(bench, "ada.pt")
    steer(bench, "hold", 1)
    bench.drop("ada.pt", mtime=200, body=b"another")
    bench.drain()
    assert (bench.ledger.get(1).state, bench.ledger.get(1).identity.size) == (State.HELD, 7)


def test_what_is_withdrawn_is_gone_and_never_marked(bench: Bench) -> None:
    admitted(bench, "ada.pt", "b.pt")
    steer(bench, "hold", 2)
    assert messages(steer(bench, "withdraw", 1, 2)) == [(True, "ada.pt: withdrawn"), (True, "b.pt: withdrawn")]
    assert os.listdir(bench.root / "incoming") == []
    bench.drain()
    assert (bench.ledger.get(1).state, bench.ledger.get(2).state, bench.seen) == (State.WITHDRAWN, State.WITHDRAWN, [])


def test_what_cannot_be_deleted_is_not_withdrawn(bench: Bench) -> None:
    (bench.root / "incoming/folder.pt").mkdir()
    admitted(bench)
    assert messages(steer(bench, "withdraw", 1)) == [(False, "folder.pt: cannot be deleted from incoming/: Is a directory")]
    assert bench.ledger.get(1).state is State.QUEUED


@pytest.mark.parametrize("how", ["unsafe", "misfit", "too slow"])
def test_a_retry_is_a_new_attempt_with_the_same_id_at_the_end_of_the_queue(bench: Bench, how: str) -> None:
    if how == "unsafe":
        bench.bad["ada.pt"] = UNSAFE
    else:
        bench.outcomes["ada.pt"] = Refused(findings=(WRONG_MODEL,)) if how == "misfit" else Failed(reason=SLOW)
    bench.drop("ada.pt", body=b"as it was")
    bench.drain()
    folder = bench.ledger.get(1).state
    first = (bench.root / folder / "00000001-ada.json").read_bytes()
    bench.bad.clear()
    bench.outcomes.clear()
    bench.seen.clear()
    admitted(bench, "b.pt")
    assert messages(steer(bench, "retry", 1)) == [(True, "ada.pt: waits for another attempt")]
    assert (bench.root / "incoming/ada.pt").read_bytes() == b"as it was"
    bench.drain()
    assert bench.seen == ["SanitizeTicket b.pt", "SanitizeTicket ada.pt", "MarkTicket b.pt", "MarkTicket ada.pt"]
    row = bench.ledger.get(1)
    assert (row.state, row.attempt, row.reason) == (State.DONE, 2, "marked")
    assert bench.places("ada.pt") == [
        "done/00000001-ada.json", "done/00000001-ada.pt", "originals/00000001-ada.attempt-1.json", "originals/00000001-ada.pt.original"
    ]  # fmt: skip
    assert (bench.root / "originals/00000001-ada.attempt-1.json").read_bytes() == first


def test_a_retry_keeps_its_place_when_its_file_settles(bench: Bench) -> None:
    """Its mtime is that of the first submission: by it, it would jump the queue."""
    bench.bad["old.pt"] = UNSAFE
    bench.drop("old.pt", mtime=1)
    bench.drain()
    admitted(bench, "b.pt")
    steer(bench, "retry", 1)
    with bench.ledger.batch():
        bench.ledger.admission.unsettle([("", "old.pt")])
    bench.seen.clear()
    bench.drain()
    assert bench.seen[:2] == ["SanitizeTicket b.pt", "SanitizeTicket old.pt"]


def test_a_retry_whose_name_is_taken_is_refused_and_nothing_is_lost(bench: Bench) -> None:
    bench.bad["ada.pt"] = UNSAFE
    bench.drop("ada.pt", body=b"first")
    bench.drain()
    bench.drop("ada.pt", body=b"second")
    ((done, message),) = messages(steer(bench, "retry", 1))
    assert not done
    assert "another file waits" in message
    assert bench.ledger.get(1).state is State.REJECTED


def test_a_retry_whose_name_was_taken_by_what_is_gone_unnoticed_is_refused(bench: Bench) -> None:
    bench.bad["ada.pt"] = UNSAFE
    bench.drop("ada.pt", body=b"first")
    bench.drain()
    admitted(bench, "ada.pt")
    (bench.root / "incoming/ada.pt").unlink()
    ((done, message),) = messages(steer(bench, "retry", 1))
    assert not done
    assert "another file waits" in message
    bench.tick()
    assert messages(steer(bench, "retry", 1)) == [(True, "ada.pt: waits for another attempt")]


def test_of_two_by_one_name_only_one_can_be_tried_again_at_a_time(bench: Bench) -> None:
    bench.bad["ada.pt"] = UNSAFE
    for body in (b"first", b"second"):
        bench.drop("ada.pt", body=body)
        bench.drain()
    assert [done for done, _ in messages(steer(bench, "retry", 1, 2))] == [True, False]
    assert (bench.root / "incoming/ada.pt").read_bytes() == b"first"


def test_a_file_that_gets_in_the_way_of_a_retry_at_the_last_instant_undoes_it(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.bad["ada.pt"] = UNSAFE
    bench.drop("ada.pt", body=b"first")
    bench.drain()
    monkeypatch.setattr(bench.spool, "can_come_back", lambda submission: None)
    bench.drop("ada.pt", body=b"second")
    ((done, message),) = messages(steer(bench, "retry", 1))
    assert not done
    assert "in its way" in message
    row = bench.ledger.get(1)
    assert (row.state, row.attempt, row.moving, row.reason) == (State.REJECTED, 1, False, "unsafe")
    assert bench.places("ada.pt")[0:1] == ["incoming/ada.pt"]
    assert (bench.root / "rejected/00000001-ada.pt.quarantined").read_bytes() == b"first"
    assert (bench.root / "rejected/00000001-ada.json").exists()


@pytest.mark.parametrize("step", ["rename", "sync"])
def test_a_crash_in_a_retry_is_finished_by_the_next_daemon(bench: Bench, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    bench.bad["ada.pt"] = UNSAFE
    bench.drop("ada.pt", body=b"first")
    bench.drain()
    bench.bad.clear()

    def crash(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr("fifomark.spool.spool.rename", crash) if step == "rename" else broken.setattr(bench.spool, "sync", crash)
        with pytest.raises(KeyboardInterrupt):
            steer(bench, "retry", 1)
    bench.restart()
    bench.drain()
    assert (bench.ledger.get(1).state, bench.ledger.get(1).attempt) == (State.DONE, 2)
    assert "originals/00000001-ada.attempt-1.json" in bench.places("ada.pt")


@pytest.mark.parametrize(
    ("verb", "message"),
    [
        ("hold", "ada.pt: is done; only what waits in incoming/ can be held"),
        ("release", "ada.pt: is done; only what is held can be released"),
        ("withdraw", "ada.pt: is done; only what waits in incoming/ can be withdrawn"),
        ("retry", "ada.pt: is done; only what was rejected or failed can be tried again"),
    ],
)
def test_what_cannot_be_done_is_said_by_name(bench: Bench, verb: Verb, message: str) -> None:
    bench.drop("ada.pt")
    bench.drain()
    assert messages(steer(bench, verb, 1, 99)) == [(False, message), (False, "no submission has this id")]


def test_a_paused_spool_starts_nothing_also_after_a_restart(bench: Bench) -> None:
    steer(bench, "pause")
    bench.drop("ada.pt")
    bench.drain()
    bench.restart()
    bench.drain()
    assert (bench.ledger.get(1).state, bench.seen, bench.daemon.paused) == (State.QUEUED, [], "by the operator")
    steer(bench, "resume")
    bench.drain()
    assert bench.ledger.get(1).state is State.DONE


def test_a_daemon_answers_what_it_is_asked(bench: Bench) -> None:
    bench.drop("ada.pt")
    assert messages(asked_of_the_daemon(bench, Request(verb="pause"))) == [(True, "paused: what runs goes on, nothing new is started")]
    assert not [name for name in os.listdir(bench.root / "control") if "request" in name]


@pytest.mark.parametrize("verb", ["hold", "release", "withdraw", "retry", "prune"])
def test_an_id_beyond_what_the_ledger_counts_with_is_nobodys(bench: Bench, verb: Verb) -> None:
    admitted(bench, "a.pt")
    for id in (1 << 63, 10**30, 0, -1):
        assert messages(steer(bench, verb, id)) == [(False, "no submission has this id")]
    assert messages(steer(bench, "withdraw", 1, 1 << 63)) == [(True, "a.pt: withdrawn"), (False, "no submission has this id")]


def test_a_request_that_breaks_is_answered_and_meets_no_other_daemon(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> Answer:
        raise OverflowError("too large")

    monkeypatch.setattr(control, "obey", broken)
    assert messages(asked_of_the_daemon(bench, Request(verb="pause"))) == [(False, "pause failed: OverflowError: too large; see the log")]
    assert not list(pending(bench.spool.layout))


def test_a_request_for_more_ids_than_one_holds_is_made_in_parts(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    admitted(bench, *(f"{i}.pt" for i in range(5)))
    monkeypatch.setattr(control, "MAX_IDS", 2)
    answer = control.steer(bench.root, "hold", [1, 2, 3, 4, 5, 5, 6])
    assert [result.id for result in answer.results] == [1, 2, 3, 4, 5, 6]
    assert [result.done for result in answer.results] == [True] * 5 + [False]


def test_a_request_that_nobody_answers_is_taken_back(bench: Bench) -> None:
    assert ask(bench.spool.layout, Request(verb="pause"), 0.05) is None
    assert not list(pending(bench.spool.layout))


@pytest.mark.parametrize("body", [b"", b"{", b'{"verb": "format"}', b'{"verb": "hold", "ids": ["x"]}'])
def test_what_is_no_request_is_removed(bench: Bench, body: bytes) -> None:
    Path(bench.root, "control/x.request").write_bytes(body)
    os.mkfifo(bench.root / "control/pipe.request")
    bench.tick()
    assert not [name for name in os.listdir(bench.root / "control") if name.endswith(".request")]


def test_a_retry_that_cannot_be_finished_once_its_file_has_moved_is_finished_by_the_next_daemon(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.bad["eve.pt"] = UNSAFE
    bench.drop("eve.pt")
    bench.drain()

    def denied(source: str, target: str) -> bool:
        raise PermissionError(13, "Permission denied", source, None, target)

    with monkeypatch.context() as patch:
        patch.setattr(bench.spool, "_advance", denied)  # after the file itself, only its report is left to be moved
        with pytest.raises(PermissionError):
            steer(bench, "retry", 1)
    bench.restart()
    assert (bench.ledger.get(1).state, bench.ledger.get(1).attempt, bench.ledger.get(1).moving) == (State.QUEUED, 2, False)
    bench.drain()
    assert sorted(bench.places("eve.pt")) == [
        "originals/00000001-eve.attempt-1.json",
        "rejected/00000001-eve.json",
        "rejected/00000001-eve.pt.quarantined",
    ]


def test_a_retry_never_goes_through_a_link_in_place_of_a_rubrics_folder(bench: Bench, tmp_path: Path) -> None:
    bench.bad["ada.pt"] = UNSAFE
    folder = bench.root / "incoming/digits"
    folder.mkdir()
    bench.drop("ada.pt", folder="digits", body=b"unsafe")
    bench.drain()
    folder.rmdir()
    (tmp_path / "outside").mkdir()
    folder.symlink_to(tmp_path / "outside")
    assert [done for done, _ in messages(steer(bench, "retry", 1))] == [False]
    assert os.listdir(tmp_path / "outside") == []
    assert (bench.ledger.get(1).state, bench.ledger.get(1).moving) == (State.REJECTED, False)
    assert (bench.root / "rejected/00000001-ada.pt.quarantined").read_bytes() == b"unsafe"


def test_a_retry_makes_the_folder_of_its_rubric_anew(bench: Bench) -> None:
    bench.bad["ada.pt"] = UNSAFE
    (bench.root / "incoming/digits").mkdir()
    bench.drop("ada.pt", folder="digits")
    bench.drain()
    (bench.root / "incoming/digits").rmdir()
    assert [done for done, _ in messages(steer(bench, "retry", 1))] == [True]
    assert (bench.root / "incoming/digits/ada.pt").exists()
