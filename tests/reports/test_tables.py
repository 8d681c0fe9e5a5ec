from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from fifomark.core.catalogue import find
from fifomark.core.findings import Verdict
from fifomark.core.inspection import Inspection
from fifomark.core.outcome import Cost, Evaluation, Metric, Reason
from fifomark.core.report import CriterionMark, Environment, Grade, Report, SubmissionFacts, decode, encode
from fifomark.core.states import State
from fifomark.core.weights import FamilySeen
from fifomark.reports import tables
from fifomark.reports.compose import refusal
from fifomark.reports.leaderboard import pseudonym, ranked
from fifomark.reports.standing import Keep, standing

RED = "\x1b[31mred\n"


def report(id: int, owner: str, accuracy: float | None, **changes: Any) -> Report:
    at = datetime.fromtimestamp(1_700_000_000 + id, UTC)
    metric = Metric(id="accuracy", split="all", value=accuracy, n=10, higher_is_better=True)
    made = Report(
        schema="fifomark.report/1",
        id=id,
        state=State.DONE,
        verdict=Verdict.CLEAN,
        reason=Reason(code="marked", message="marked", blame=None),
        submission=SubmissionFacts(
            name=f"{owner}.pt", owner=owner, rubric="digits", attempt=1, received_at=at, mtime=at, size=1, sha256="0" * 64
        ),
        clean=None,
        container="zip",
        form="state_dict",
        would_run=(),
        findings=(),
        model=None,
        evaluation=Evaluation(
            rubric_sha256="", dataset_sha256="", device="cpu", metrics=(metric,), audits=(), cost=Cost(forward_seconds=0, total_seconds=0)
        ),
        grade=Grade(points=90, points_possible=100, share=0.9, band="A", passed=True, criteria=()),
        timeline=(),
        environment=Environment(fifomark="0", python="3", platform="x", torch=None, slot=None),
    )
    return replace(made, **changes)


def test_the_best_of_each_owner_ranks_and_a_tie_goes_to_the_earlier() -> None:
    found = [report(1, "ada", 0.8), report(2, "bob", 0.9), report(3, "ada", 0.95), report(4, "eve", 0.9), report(5, "zoe", None)]
    rows = ranked(found, "digits", "accuracy")
    assert [(row.rank, row.owner, row.id) for row in rows] == [(1, "ada", 3), (2, "bob", 2), (2, "eve", 4), (4, "zoe", 5)]


def test_ranks_go_by_all_digits_and_few_are_told() -> None:
    found = []
    for i, owner, value in ((1, "ada", 0.812344), (2, "bob", 0.812341), (3, "eve", 0.812344)):
        grade = Grade(points=value * 100, points_possible=100, share=value, band=None, passed=True, criteria=())
        found.append(report(i, owner, value, grade=grade))
    rows = ranked(found, "digits", "accuracy", digits=4)
    assert [(row.rank, row.owner) for row in rows] == [(1, "ada"), (1, "eve"), (3, "bob")]
    assert {(row.metrics["accuracy"], row.points, row.share) for row in rows} == {(0.8123, 81.23, 0.8123)}


def test_where_less_is_better_the_least_ranks_first() -> None:
    def loss(id: int, owner: str, value: float) -> Report:
        made = report(id, owner, value)
        assert made.evaluation is not None
        metrics = tuple(replace(metric, higher_is_better=False) for metric in made.evaluation.metrics)
        return replace(made, evaluation=replace(made.evaluation, metrics=metrics))

    assert [row.owner for row in ranked([loss(1, "ada", 0.8), loss(2, "bob", 0.1)], "digits", "accuracy")] == ["bob", "ada"]


def split_report(id: int, owner: str, public: float, private: float, judged_on: str = "private") -> Report:
    made = report(id, owner, public)
    metrics = [Metric(id="accuracy", split=split, value=value, n=10) for split, value in (("public", public), ("private", private))]
    own = Metric(id="parameters", split="all", value=5, n=0, higher_is_better=False)
    assert made.evaluation is not None
    assert made.grade is not None
    criterion = CriterionMark(id="c", title="C", points=1, points_possible=1, value=private, message="", metric="accuracy", split=judged_on)
    evaluation = replace(made.evaluation, metrics=(*metrics, own))
    return replace(made, evaluation=evaluation, grade=replace(made.grade, criteria=(criterion,)))


def test_a_ranking_is_of_its_split_and_tells_nothing_of_another() -> None:
    found = [split_report(1, "ada", 0.8, 0.61803), split_report(2, "bob", 0.7, 0.91803)]
    rows = ranked(found, "digits", "accuracy", split="public")
    assert [(row.owner, row.metrics) for row in rows] == [
        ("ada", {"accuracy": 0.8, "parameters": 5}),
        ("bob", {"accuracy": 0.7, "parameters": 5}),
    ]
    assert {(row.points, row.points_possible, row.share, row.band, row.passed) for row in rows} == {(None,) * 5}
    for style in ("simple", "pipe"):
        assert "points" not in tables.leaderboard(rows, style)
    assert "1803" not in tables.leaderboard_csv(rows)
    assert [row.owner for row in ranked(found, "digits", "accuracy", split="private")] == ["bob", "ada"]


def test_points_for_what_a_ranking_is_of_are_told() -> None:
    (row,) = ranked([split_report(1, "ada", 0.8, 0.6, judged_on="public")], "digits", "accuracy", split="public")
    assert (row.points, row.band) == (90, "A")
    assert "90/100" in tables.leaderboard([row])


def test_a_ranking_by_the_model_itself_needs_no_split() -> None:
    (row,) = ranked([split_report(1, "ada", 0.8, 0.6)], "digits", "parameters", split="public")
    assert row.metrics["parameters"] == 5


@pytest.mark.parametrize(("keep", "kept"), [("best", 2), ("last", 4), ("first", 1)])
def test_the_mark_that_stands_is_the_one_the_rubric_keeps(keep: Keep, kept: int) -> None:
    found = [report(4, "ada", 0.8), report(1, "ada", 0.7), report(3, "ada", 0.9), report(2, "ada", 0.9), report(5, "ada", None, grade=None)]
    assert [row.id for row in ranked(found, "digits", "accuracy", keep=keep)] == [kept]


def test_by_points_the_best_stands_and_of_equal_ones_the_earlier() -> None:
    def worth(id: int, owner: str, points: float) -> Report:
        return report(id, owner, 0.5, grade=Grade(points=points, points_possible=9, share=points / 9, band=None, passed=True, criteria=()))

    found = [worth(5, "bob", 7), worth(4, "ada", 7), worth(3, "ada", 7), worth(2, "ada", 5), worth(1, "eve", 9)]
    assert [(r.submission.owner, r.id) for r in standing(found)] == [("eve", 1), ("ada", 3), ("bob", 5)]
    assert [r.id for r in standing(found, "last")] == [1, 4, 5]


def test_a_pseudonym_is_stable_and_tells_nobody_whose_it_is() -> None:
    assert pseudonym(b"k" * 32, "digits", "ada") == pseudonym(b"k" * 32, "digits", "ada")
    names = {
        pseudonym(key, rubric, owner)
        for key in (b"k" * 32, b"l" * 32)
        for rubric in ("digits", "cats")
        for owner in ("ada", "bob", "\udcff")
    }
    assert len(names) == 12
    found = [report(1, "ada", 0.8), report(2, "bob", 0.9)]
    rows = ranked(found, "digits", "accuracy", pseudonym=partial(pseudonym, b"k" * 32, "digits"))
    assert [row.owner for row in rows] == [pseudonym(b"k" * 32, "digits", owner) for owner in ("bob", "ada")]
    said = msgspec.json.encode(rows).decode() + tables.leaderboard(rows) + tables.leaderboard(rows, "pipe") + tables.leaderboard_csv(rows)
    assert not any(word in said for word in ("ada", "bob", "0000000"))


def test_what_was_not_marked_or_is_of_another_rubric_does_not_rank() -> None:
    assert ranked([report(1, "ada", 0.8, grade=None), report(2, "bob", 0.8)], "other", "accuracy") == []


def test_a_report_survives_the_disk() -> None:
    made = report(1, "ada", 0.8)
    assert decode(encode(made)) == made


def test_strangers_words_never_reach_the_terminal_as_they_are() -> None:
    finding = find("FM201", RED, RED, evidence=RED)
    seen = Inspection(
        path=RED,
        verdict=Verdict.UNSAFE,
        container="zip",
        form="state_dict",
        family=FamilySeen(name="mlp", evidence=(RED,)),
        findings=(finding,),
        weights=None,
        would_run=(RED,),
        size=1,
        sha256=None,
    )
    text = tables.inspection(seen) + tables.report(report(1, RED, 0.5, would_run=(RED,), findings=(finding,)))
    text += tables.leaderboard(ranked([report(1, RED, 0.5)], "digits", "accuracy"))
    assert "\x1b" not in text
    assert "red\n" not in text.replace(r"red\n", "")


def test_a_refusal_is_told_by_its_worst_finding_and_by_whose_it_is() -> None:
    note, wrong, unsafe = find("FM501", "a", "note"), find("FM503", "b", "this is a cnn"), find("FM201", "c", "it would run x")
    assert refusal([note, wrong]) == Reason(code="wrong-model", message="this is a cnn", blame="submitter")
    assert refusal([note, wrong, unsafe]) == Reason(code="unsafe", message="it would run x (and 1 more)", blame="submitter")
