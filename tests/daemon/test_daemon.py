from __future__ import annotations

import os
import shutil

import pytest
from daemon_bench import EVALUATION, UNSAFE, WRONG_MODEL, Bench
from msgspec.structs import replace

from fifomark.core.catalogue import RULES
from fifomark.core.clock import utc
from fifomark.core.errors import ConfigError, UsageError
from fifomark.core.outcome import Failed, Lost, Marked, Outcome, Reason, Refused
from fifomark.core.overruns import overrun
from fifomark.core.report import decode
from fifomark.core.states import State
from fifomark.core.submission import Submission
from fifomark.reports.feedback import Shown, feedback


def test_a_good_submission_ends_in_done_with_its_report_and_its_original(bench: Bench) -> None:
    bench.drop("ada__1.pt", body=b"what ada sent")
    bench.drain()
    assert bench.places("ada__1.pt") == [
        "done/00000001-ada__1.json",
        "done/00000001-ada__1.pt",
        "originals/00000001-ada__1.pt.original",
    ]
    assert (bench.root / "done/00000001-ada__1.pt").read_bytes() == b"clean"
    assert (bench.root / "originals/00000001-ada__1.pt.original").read_bytes() == b"what ada sent"
    report = decode((bench.root / "done/00000001-ada__1.json").read_bytes())
    assert (report.id, report.state, report.submission.owner, report.submission.rubric) == (1, State.DONE, "ada", "digits")
    assert [step.state for step in report.timeline] == ["queued", "sanitizing", "sanitized", "evaluating", "done"]
    assert report.grade is not None


def test_an_unsafe_submission_ends_in_rejected_as_it_came_and_never_reaches_a_slot(bench: Bench) -> None:
    bench.bad["eve.pt"] = UNSAFE
    bench.drop("eve.pt", body=b"evil")
    bench.drain()
    assert bench.places("eve.pt") == ["rejected/00000001-eve.json", "rejected/00000001-eve.pt.quarantined"]
    assert (bench.root / "rejected/00000001-eve.pt.quarantined").read_bytes() == b"evil"
    assert bench.slots.started == []
    report = decode((bench.root / "rejected/00000001-eve.json").read_bytes())
    assert (report.verdict, report.reason.code, report.reason.blame, report.clean) == ("unsafe", "unsafe", "submitter", None)


def test_a_model_that_does_not_fit_the_rubric_is_rejected_as_it_came(bench: Bench) -> None:
    bench.outcomes["bob.pt"] = Refused(findings=(WRONG_MODEL,))
    bench.drop("bob.pt", body=b"what bob sent")
    bench.drain()
    assert bench.places("bob.pt") == ["rejected/00000001-bob.json", "rejected/00000001-bob.pt.quarantined"]
    assert (bench.root / "rejected/00000001-bob.pt.quarantined").read_bytes() == b"what bob sent"
    assert decode((bench.root / "rejected/00000001-bob.json").read_bytes()).reason.code == "wrong-model"


def test_a_submission_that_overruns_its_limits_fails_with_its_clean_file_kept(bench: Bench) -> None:
    bench.outcomes["slow.pt"] = Failed(reason=Reason(code="limit-exceeded", message="it took longer than it may", blame="submitter"))
    bench.drop("slow.pt")
    bench.drain()
    assert bench.places("slow.pt") == [
        "failed/00000001-slow.json",
        "failed/00000001-slow.pt",
        "originals/00000001-slow.pt.original",
    ]
    assert len([line for line in bench.seen if line == "MarkTicket slow.pt"]) == 1


@pytest.mark.parametrize(
    ("outcome", "code", "tries"),
    [
        (overrun("FM601", "it took longer than it may"), "FM601", 1),
        (overrun("FM602", "it took more than 300 MiB of memory"), "FM602", 1),
        (Lost(how="killed by the out-of-memory killer", memory=True), "FM602", 3),
    ],
)
def test_what_takes_too_much_is_told_what_to_do_about_it(bench: Bench, outcome: Outcome, code: str, tries: int) -> None:
    bench.outcomes["big.pt"] = outcome
    bench.drop("big.pt")
    bench.drain()
    assert bench.seen.count("MarkTicket big.pt") == tries
    seen = decode((bench.root / "failed/00000001-big.json").read_bytes())
    assert (seen.state, seen.reason.code, seen.reason.blame) == (State.FAILED, "limit-exceeded", "submitter")
    (finding,) = feedback(seen, Shown("none", 4, False)).findings
    assert (finding.code, finding.advice) == (code, RULES[code].advice)


def test_the_system_that_runs_out_of_memory_while_a_file_is_read_says_nothing_of_the_model(bench: Bench) -> None:
    bench.outcomes["lost-in-sanitizing.pt"] = Lost(how="killed by the out-of-memory killer", memory=True)
    bench.drop("lost-in-sanitizing.pt")
    bench.drain()
    seen = decode((bench.root / "failed/00000001-lost-in-sanitizing.json").read_bytes())
    assert (seen.reason.code, seen.findings) == ("internal-error", ())


@pytest.mark.parametrize("name", ["lost-in-marking.pt", "lost-in-sanitizing.pt"])
def test_a_lost_worker_is_tried_again_and_then_fails_as_ours(bench: Bench, name: str) -> None:
    bench.outcomes[name] = Lost(how="killed by SIGKILL")
    bench.drop(name)
    bench.drain()
    ticket = "MarkTicket" if name == "lost-in-marking.pt" else "SanitizeTicket"
    assert len([line for line in bench.seen if line == f"{ticket} {name}"]) == 3
    report = decode((bench.root / f"failed/00000001-{name[:-3]}.json").read_bytes())
    assert (report.reason.code, report.reason.blame) == ("internal-error", "operator")
    assert "killed by SIGKILL" in report.reason.message
    kept = "failed/00000001-lost-in-marking.pt" if ticket == "MarkTicket" else "failed/00000001-lost-in-sanitizing.pt.original"
    assert (bench.root / kept).exists()
    assert os.listdir(bench.root / "evaluating") == []


@pytest.mark.parametrize("name", ["ada.pt", "lost-in-sanitizing.pt"])
def test_a_worker_that_was_never_ready_costs_the_submission_no_try(bench: Bench, name: str) -> None:
    bench.outcomes[name] = Lost(how="exit code 78", began=False)
    bench.drop(name)
    bench.tick(20)
    assert bench.ledger.get(1).state is not State.FAILED
    assert bench.ledger.get(1).tries <= 1
    del bench.outcomes[name]
    bench.drain()
    assert bench.ledger.get(1).state is State.DONE


def test_submissions_start_in_order_of_mtime(bench: Bench) -> None:
    for name, mtime in (("c.pt", 300), ("a.pt", 100), ("b.pt", 200)):
        bench.drop(name, mtime)
    bench.drain()
    assert [line.split()[1] for line in bench.seen if line.startswith("MarkTicket")] == ["a.pt", "b.pt", "c.pt"]


def test_a_free_slot_takes_the_earliest_that_is_ready(bench: Bench) -> None:
    bench.drop("second.pt", 200)
    bench.tick()  # claimed
    bench.drop("first.pt", 100)
    bench.drain()
    assert [line.split()[1] for line in bench.seen if line.startswith("Sanitize")] == ["second.pt", "first.pt"]


def test_processes_that_take_long_to_start_are_begun_when_something_comes_and_not_before(bench: Bench) -> None:
    begun: list[str] = []
    bench.slots.expect = lambda: begun.append("slots")  # type: ignore[method-assign]
    bench.sanitizers.expect = lambda: begun.append("sanitizers")  # type: ignore[method-assign]
    bench.tick(2)
    assert begun == []
    with bench.ledger.batch():
        bench.ledger.steering.pause("tonight")
    bench.drop("ada.pt")
    bench.tick()
    assert begun == []
    with bench.ledger.batch():
        bench.ledger.steering.pause(None)
    bench.tick()
    assert set(begun) == {"slots", "sanitizers"}


def test_sanitizing_runs_ahead_of_the_slots_but_not_without_end(bench: Bench) -> None:
    bench.slots.free = list  # type: ignore[method-assign]
    for i in range(20):
        bench.drop(f"m{i:02}.pt", 100 + i)
    bench.tick(40)
    assert bench.ledger.counts()[State.SANITIZED] == 4
    assert bench.ledger.counts()[State.QUEUED] == 16


def test_nothing_in_incoming_is_deleted_whatever_it_is(bench: Bench) -> None:
    incoming = bench.root / "incoming"
    (incoming / "target.txt").write_text("not a model")
    (incoming / "link.pt").symlink_to("/etc/hostname")
    (incoming / "folder.pt").mkdir()
    (incoming / "folder.pt" / "inside").write_text("kept")
    os.mkfifo(incoming / "pipe.pt")
    for name in ("target.txt", "link.pt", "folder.pt", "pipe.pt"):
        bench.bad[name] = UNSAFE
    bench.drain()
    assert list(incoming.iterdir()) == []
    rejected = {p.name.split("-", 1)[1] for p in (bench.root / "rejected").iterdir()}
    for name in ("target.txt", "link.pt", "folder.pt", "pipe.pt"):
        assert {f"{name}.quarantined", f"{name.rsplit('.')[0]}.json"} <= rejected
    (folder,) = (bench.root / "rejected").glob("*-folder.pt.quarantined")
    assert (folder / "inside").read_text() == "kept"


def test_a_file_in_a_rubrics_subfolder_is_marked_against_that_rubric(bench: Bench) -> None:
    (bench.root / "incoming" / "digits").mkdir()
    bench.drop("ada.pt", folder="digits")
    bench.drain()
    assert (bench.root / "done/00000001-ada.pt").exists()
    assert (bench.root / "incoming" / "digits").is_dir()


def test_a_file_withdrawn_between_listing_and_claim_is_no_error(bench: Bench) -> None:
    path = bench.drop("gone.pt")
    look = bench.spool.look

    def look_then_delete(*args: object) -> object:
        listing = look(*args)  # type: ignore[arg-type]
        path.unlink(missing_ok=True)
        return listing

    bench.spool.look = look_then_delete  # type: ignore[method-assign,assignment]
    bench.drain()
    assert bench.ledger.get(1).state is State.WITHDRAWN
    assert bench.seen == []


def test_a_subfolder_that_is_removed_as_its_file_is_taken_stops_nothing(bench: Bench) -> None:
    folder = bench.root / "incoming" / "digits"
    folder.mkdir()
    bench.drop("ada.pt", folder="digits")
    sync = bench.spool.sync

    def remove_then_sync() -> None:
        if folder.exists():
            folder.rmdir()
        sync()

    bench.spool.sync = remove_then_sync  # type: ignore[method-assign]
    bench.drain()
    assert (bench.root / "done/00000001-ada.pt").exists()


def test_a_subfolder_that_becomes_a_link_as_its_file_is_taken_leads_nowhere(bench: Bench) -> None:
    folder, private = bench.root / "incoming" / "digits", bench.root.parent / "private"
    folder.mkdir()
    private.mkdir()
    (private / "ada.pt").write_text("not for you")
    bench.drop("ada.pt", folder="digits")
    claim = bench.spool._claim

    def swap_then_claim(submission: Submission) -> bool:
        folder.rename(bench.root.parent / "aside")
        folder.symlink_to(private)
        return claim(submission)

    bench.spool._claim = swap_then_claim  # type: ignore[method-assign]
    bench.tick()
    assert (private / "ada.pt").read_text() == "not for you"
    assert bench.ledger.get(1).state is State.HELD


def test_what_cannot_be_taken_is_held_with_its_reason_and_the_next_goes_on(bench: Bench) -> None:
    claim = bench.spool._claim

    def refuse_bobs(submission: Submission) -> bool:
        if submission.name == "bob.pt":
            raise PermissionError(13, "Permission denied")
        return claim(submission)

    bench.spool._claim = refuse_bobs  # type: ignore[method-assign]
    bench.drop("bob.pt", 100)
    bench.drop("eve.pt", 200)
    bench.drain()
    assert (bench.root / "incoming/bob.pt").exists()
    assert bench.ledger.get(1).message == "it cannot be taken from incoming/: Permission denied"
    assert (bench.root / "done/00000002-eve.pt").exists()
    bench.restart()
    bench.drain()
    assert (bench.root / "done/00000001-bob.pt").exists()


def test_what_waits_for_a_rubric_that_is_gone_fails_as_the_operators(bench: Bench) -> None:
    shutil.copytree(bench.root / "rubrics/digits", bench.root / "rubrics/extra")
    (bench.root / "incoming/extra").mkdir()
    bench.restart()
    bench.slots.free = list  # type: ignore[method-assign]
    bench.drop("ada.pt", folder="extra")
    bench.tick(4)
    shutil.rmtree(bench.root / "rubrics/extra")
    bench.restart()
    bench.drain()
    report = decode((bench.root / "failed/00000001-ada.json").read_bytes())
    assert (report.reason.blame, report.reason.message) == ("operator", "its rubric 'extra' is gone")


def test_a_rubric_that_only_the_worker_can_tell_is_wrong_stops_the_marking_and_costs_nobody_a_try(bench: Bench) -> None:
    bench.outcomes["ada.pt"] = Failed(reason=Reason(code="rubric-error", message="rubric.toml: metric.args: no such", blame="operator"))
    bench.drop("ada.pt")
    with pytest.raises(UsageError, match="no such"):
        bench.drain()
    bench.daemon.release(bench.now)
    del bench.outcomes["ada.pt"]
    bench.restart()
    bench.drain()
    assert (bench.root / "done/00000001-ada.pt").exists()


def test_a_rubric_that_changes_between_ticket_and_worker_only_delays(bench: Bench) -> None:
    bench.outcomes["ada.pt"] = Failed(reason=Reason(code="rubric-changed", message="changed", blame="operator"))
    bench.drop("ada.pt")
    bench.tick(9)
    assert bench.ledger.get(1).tries <= 1
    del bench.outcomes["ada.pt"]
    bench.drain()
    assert (bench.root / "done/00000001-ada.pt").exists()


def test_names_of_any_bytes_get_their_report(bench: Bench) -> None:
    for name in (os.fsdecode(b"\xff\n.pt"), "x" * 252 + ".pt", "-rf.pt", "\x1b[31mred.pt"):
        bench.drop(name)
    bench.drain()
    assert len(list((bench.root / "done").glob("*.json"))) == 4
    assert all(p.name.isprintable() for p in (bench.root / "done").iterdir())


def test_a_rubric_that_is_changed_is_read_again_before_the_next_model_is_marked(bench: Bench) -> None:
    rubric = bench.root / "rubrics/digits/rubric.toml"
    bench.drop("ada.pt")
    bench.drain()
    rubric.write_text(rubric.read_text().replace("points = 5", "points = 6"))
    bench.drop("bob.pt")
    bench.drain()
    possible = [decode(path.read_bytes()).grade for path in sorted((bench.root / "done").glob("*.json"))]
    assert [grade.points_possible for grade in possible if grade] == [100, 101]


def test_a_rubric_that_is_broken_later_stops_the_marking_and_loses_nothing(bench: Bench) -> None:
    rubric = bench.root / "rubrics/digits/rubric.toml"
    whole = rubric.read_text()
    bench.drop("ada.pt")
    bench.tick(2)
    rubric.write_text("half of it")
    with pytest.raises(ConfigError, match=r"rubric\.toml"):
        bench.drain()
    bench.daemon.release(bench.now)
    rubric.write_text(whole)
    bench.restart()
    bench.drain()
    assert bench.places("ada.pt") == ["done/00000001-ada.json", "done/00000001-ada.pt", "originals/00000001-ada.pt.original"]


def test_what_counts_for_lateness_is_when_a_file_was_received_and_not_its_own_mtime(bench: Bench) -> None:
    rubric = bench.root / "rubrics/digits/rubric.toml"
    rubric.write_text(rubric.read_text() + f"\n[grading.late]\ndue = {utc(bench.now - 3600):%Y-%m-%dT%H:%M:%SZ}\n")
    bench.drop("ada.pt", mtime=1000)
    bench.drain()
    grade = decode((bench.root / "done/00000001-ada.json").read_bytes()).grade
    assert grade is not None
    assert grade.late is not None
    assert (grade.late.share, grade.late.hours) == (0.1, pytest.approx(1, abs=0.01))


def test_what_was_marked_by_a_rubric_that_has_changed_since_is_marked_again(bench: Bench) -> None:
    bench.outcomes["ada.pt"] = Marked(evaluation=replace(EVALUATION, rubric_sha256="0" * 64))
    bench.drop("ada.pt")
    bench.tick(9)
    assert bench.ledger.get(1).state is not State.DONE
    assert bench.ledger.get(1).tries <= 1
    del bench.outcomes["ada.pt"]
    bench.drain()
    assert (bench.root / "done/00000001-ada.pt").exists()


def test_more_than_a_turn_admits_comes_in_over_several_in_order(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fifomark.daemon.admitting.MAX_ADMITTED", 2)
    for i in range(5):
        bench.drop(f"{i}.pt", mtime=100 - i)
    bench.tick()
    assert bench.daemon.admitting.has_more
    bench.drop("oldest.pt", mtime=1)
    (bench.root / "incoming" / "1.pt").unlink()
    bench.drain()
    assert [line.removeprefix("SanitizeTicket ") for line in bench.seen if line.startswith("Sanitize")] == [
        "4.pt", "oldest.pt", "3.pt", "2.pt", "0.pt"
    ]  # fmt: skip
