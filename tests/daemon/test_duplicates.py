"""Weights that two owners hand in are flagged, with evidence for the operator, and never refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from daemon_bench import Bench
from msgspec.structs import replace

from fifomark.core.outcome import Fingerprint, Marked, MarkTicket, Outcome, SanitizeTicket
from fifomark.core.report import Report, decode
from fifomark.core.states import State
from fifomark.daemon.duplicates import duplicates
from fifomark.ledger.fingerprints import NEIGHBOURS


def sketch(size: float, shadow: float) -> bytes:
    rows = np.zeros((2, 28), "<f4")
    rows[:, 1:12] = size
    rows[0, 12:], rows[1, 12:] = 1, shadow
    return rows.tobytes()


def prints(exact: str, permuted: str, size: float = 1.0, shapes: str = "s", shadow: float = -1) -> Fingerprint:
    return Fingerprint(exact=exact * 64, permuted=permuted, shapes=shapes, size=size, sketch=sketch(size, shadow))


class Contest(Bench):
    """A bench whose submissions have the weights that the test gives them: a fingerprint, by file name."""

    def __init__(self, root: Path) -> None:
        self.weights: dict[str, Fingerprint] = {}
        super().__init__(root)

    def judge(self, ticket: SanitizeTicket | MarkTicket) -> Outcome:
        outcome = super().judge(ticket)
        made = self.weights[self.ledger.get(ticket.submission).name]
        return replace(outcome, fingerprint=made) if isinstance(outcome, Marked) else outcome

    def submit(self, name: str, made: Fingerprint) -> Report:
        self.weights[name] = made
        self.drop(name)
        self.drain()
        return decode(Path(self.spool.layout.report(self.ledger.named(name)[0])).read_bytes())


@pytest.fixture
def contest(tmp_path: Path) -> Contest:
    return Contest(tmp_path / "contest")


@pytest.mark.parametrize(
    ("made", "code"),
    [
        (prints("a", "p"), "FM701"),
        (prints("b", "p"), "FM702"),
        (prints("b", "q", 1.001), "FM703"),
        (prints("b", "q", 1.001, shadow=1), "FM703"),
        (prints("b", "q", 1.1), "FM703"),
        (prints("b", "q", 1.1, shadow=-0.9), "FM703"),
        (prints("b", "q", 1.1, shadow=-0.7), None),
        (prints("b", "q", 1.001, "other"), None),
    ],
)
def test_a_copy_of_anothers_weights_is_flagged_and_marked_all_the_same(contest: Contest, made: Fingerprint, code: str | None) -> None:
    contest.submit("ada__1.pt", prints("a", "p"))
    report = contest.submit("eve__1.pt", made)
    assert [finding.code for finding in report.findings] == ([code] if code else [])
    assert (report.state, report.verdict) == (State.DONE, "flagged" if code else "clean")
    assert report.grade is not None
    for finding in report.findings:
        assert "submission 00000001 of ada, received before this one, 2096-" in str(finding.evidence)
        assert "ada" not in finding.message + finding.advice


def test_an_owners_own_weights_are_no_copy(contest: Contest) -> None:
    contest.submit("ada__1.pt", prints("a", "p"))
    assert contest.submit("ada__2.pt", prints("a", "p")).findings == ()


def test_the_first_of_several_is_named(contest: Contest) -> None:
    for owner in ("ada", "bob", "cleo"):
        report = contest.submit(f"{owner}__1.pt", prints("a", "p"))
    assert "00000001 of ada" in str(report.findings[0].evidence)


def test_the_nearest_of_several_is_named(contest: Contest) -> None:
    for i, owner in enumerate(("ada", "bob", "cleo")):
        contest.submit(f"{owner}__1.pt", prints(owner, owner, 1 + 0.02 * i, shadow=i))
    report = contest.submit("eve__1.pt", prints("e", "e", 1.0195, shadow=9))
    assert "00000002 of bob" in str(report.findings[0].evidence)


def test_the_same_weights_under_another_rubric_are_no_copy(contest: Contest) -> None:
    contest.submit("ada__1.pt", prints("a", "p"))
    with contest.ledger.batch():
        contest.ledger._db.execute("UPDATE fingerprints SET rubric = 'cats'")
    assert contest.submit("eve__1.pt", prints("a", "p")).findings == ()


def test_a_bounded_number_of_neighbours_is_compared_and_a_copy_is_among_them(contest: Contest) -> None:
    contest.submit("ada__1.pt", prints("a", "p"))
    with contest.ledger.batch():
        for i in range(600):
            contest.ledger._db.execute(
                "INSERT INTO fingerprints VALUES (?, 'digits', ?, ?, ?, 's', ?, x'')",
                (1000 + i, f"o{i}", f"e{i}", f"p{i}", 1.5 + 0.01 * i if i % 2 else 0.5 - 0.0001 * i),
            )
    report = contest.submit("eve__1.pt", prints("b", "q", 1.0001))
    assert [finding.code for finding in report.findings] == ["FM703"]
    assert "of ada" in str(report.findings[0].evidence)
    assert len(contest.ledger.fingerprints.near(contest.ledger.get(2), prints("b", "q", 1.0001))) <= 2 * NEIGHBOURS


def test_the_same_submission_tried_again_is_no_copy_of_itself(contest: Contest) -> None:
    contest.submit("ada__1.pt", prints("a", "p"))
    ada = contest.ledger.get(1)
    with contest.ledger.batch():
        contest.ledger.fingerprints.keep(ada, prints("a", "p2"))
    assert contest.ledger.fingerprints.same(ada, prints("a", "p2")) is None
    assert contest.ledger._db.execute("SELECT count(*), min(permuted) FROM fingerprints").fetchone() == (1, "p2")


def test_where_the_one_that_came_first_is_marked_second_it_is_told_so(contest: Contest) -> None:
    contest.submit("ada__1.pt", prints("a", "p"))
    contest.submit("eve__1.pt", prints("b", "q", 2.0))
    with contest.ledger.batch():
        contest.ledger.fingerprints.keep(contest.ledger.get(2), prints("c", "r"))
    (finding,) = duplicates(contest.ledger, contest.ledger.get(1), prints("c", "r"))
    assert "submission 00000002 of eve, received after this one, 2096-" in str(finding.evidence)
