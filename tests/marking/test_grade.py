from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from msgspec.structs import replace

from fifomark.core.outcome import Audit, Cost, Evaluation, Metric
from fifomark.core.report import Grade
from fifomark.marking.grade import grade
from fifomark.marking.schema import About, DataFile, Input, MetricRule, ModelRules, Rubric, Task
from fifomark.marking.terms import Band, Criterion, Grading, Late, Linear, Rounding, Scoring, SplitName, Steps, Threshold

DUE = datetime(2026, 12, 1, 23, 59, tzinfo=UTC)
EVALUATION = Evaluation(
    rubric_sha256="", dataset_sha256="", device="cpu", metrics=(), audits=(), cost=Cost(forward_seconds=0, total_seconds=0)
)


def rubric(*criteria: Criterion, grading: Grading | None = None, public: float | None = None) -> Rubric:
    return Rubric(
        about=About(schema="fifomark.rubric/1", id="r", title="R"),
        task=Task(num_classes=2),
        model=ModelRules(families=("mlp",)),
        input=Input(shape=(4,)),
        data=DataFile(path="x.npz", public=public),
        metrics=(MetricRule(id="m", kind="MulticlassAccuracy", precision=2), MetricRule(id="parameters", kind="parameters", precision=0)),
        criteria=criteria,
        grading=grading or Grading(),
    )


def mark(
    value: float | None,
    scoring: Scoring,
    *,
    points: float = 10,
    better: bool | None = True,
    grading: Grading | None = None,
    received_at: datetime | None = None,
) -> Grade:
    metric = Metric(id="m", split="all", value=value, n=10, higher_is_better=better, reason=None if value is not None else "it gave NaN")
    criterion = Criterion(id="c", title="C", points=points, metric="m", scoring=scoring)
    return grade(replace(EVALUATION, metrics=(metric,)), rubric(criterion, grading=grading), received_at)


@pytest.mark.parametrize(
    ("value", "scoring", "points"),
    [
        (0.5, Linear(start=0, end=1), 5),
        (0.2, Linear(start=0.5, end=1), 0),
        (1.2, Linear(start=0.5, end=1), 10),
        (0.25, Linear(start=1, end=0), 7.5),
        (0.5, Threshold(at_least=0.5), 10),
        (0.49, Threshold(at_least=0.5), 0),
        (0.5, Threshold(at_most=0.5), 10),
        (0.51, Threshold(at_most=0.5), 0),
        (0.3, Threshold(at_least=0.1, at_most=0.2), 0),
        (0.9, Steps(steps=((0.95, 9), (0.9, 6), (0.8, 3))), 6),
        (0.7, Steps(steps=((0.95, 9), (0.9, 6), (0.8, 3))), 0),
    ],
)
def test_points_follow_the_scoring(value: float, scoring: Scoring, points: float) -> None:
    assert mark(value, scoring).criteria[0].points == pytest.approx(points)


def test_a_criterion_without_a_title_is_called_by_its_id() -> None:
    criterion = Criterion(id="c", points=1, check="loads")
    assert grade(EVALUATION, rubric(criterion)).criteria[0].title == "c"


def test_steps_of_a_metric_where_less_is_better_go_down() -> None:
    steps = Steps(steps=((100, 2), (10, 8)))
    assert [mark(value, steps, better=False).points for value in (5, 50, 500)] == [8, 2, 0]


def test_a_metric_without_a_value_gives_no_points_and_says_why() -> None:
    marked = mark(None, Linear(start=0, end=1))
    assert marked.points == 0
    assert "it gave NaN" in marked.criteria[0].message


@pytest.mark.parametrize(("value", "points"), [(0.725, 7.5), (0.724999, 7.0), (0.775, 8.0), (0.1 + 0.2 + 0.425, 7.5)])
def test_points_are_rounded_half_up_in_decimals(value: float, points: float) -> None:
    assert mark(value, Linear(start=0, end=1), grading=Grading(rounding=Rounding(step=0.5))).points == points


def test_rounding_never_gives_more_than_is_possible() -> None:
    assert mark(1.0, Linear(start=0, end=1), points=9, grading=Grading(rounding=Rounding(step=2))).share == 1.0


def test_the_pass_mark_is_reached_by_what_is_shown() -> None:
    grading = Grading(pass_mark=0.5, rounding=Rounding(step=0.5))
    assert [mark(value, Linear(start=0, end=1), grading=grading).passed for value in (0.47, 0.476, 0.5)] == [False, True, True]


def test_the_band_is_the_highest_that_is_reached_in_whatever_order_they_stand() -> None:
    grading = Grading(bands=(Band(grade="C", start=0.5), Band(grade="A", start=0.9), Band(grade="B", start=0.7)))
    assert [mark(value, Linear(start=0, end=1), grading=grading).band for value in (0.95, 0.9, 0.71, 0.5, 0.4)] == [
        "A",
        "A",
        "B",
        "C",
        None,
    ]


def test_the_message_shows_the_number_with_the_digits_asked_for() -> None:
    assert mark(0.98765, Threshold(at_least=0.5)).criteria[0].message == "m 0.99: wanted at least 0.5"


def metric_on(split: str, value: float, id: str = "m") -> Metric:
    return Metric(id=id, split=split, value=value, n=10)


@pytest.mark.parametrize(("split", "points"), [(None, 7), ("private", 7), ("public", 4)])
def test_a_criterion_judges_the_private_examples_unless_it_names_others(split: SplitName | None, points: float) -> None:
    criterion = Criterion(id="c", title="C", points=10, metric="m", split=split, scoring=Linear(start=0, end=1))
    evaluation = replace(EVALUATION, metrics=(metric_on("public", 0.4), metric_on("private", 0.7)))
    marked = grade(evaluation, rubric(criterion, public=0.5)).criteria[0]
    assert (marked.points, marked.split, marked.metric) == (points, split or "private", "m")
    assert f"on the {split or 'private'} examples" in marked.message


@pytest.mark.parametrize("split", [None, "private", "public"])
def test_what_is_measured_on_the_model_itself_is_found_whatever_the_split(split: SplitName | None) -> None:
    criterion = Criterion(id="c", title="C", points=10, metric="parameters", split=split, scoring=Threshold(at_most=100))
    evaluation = replace(EVALUATION, metrics=(metric_on("public", 0.4), metric_on("private", 0.7), metric_on("all", 99, "parameters")))
    assert grade(evaluation, rubric(criterion, public=0.5)).points == 10


@pytest.mark.parametrize(
    ("check", "audits", "points"),
    [
        ("loads", (), 10),
        ("repeat", (Audit(id="repeat", passed=True, message="fine"),), 10),
        ("repeat", (Audit(id="repeat", passed=False, message="they differ"),), 0),
        ("order", (Audit(id="repeat", passed=True, message="fine"),), 0),
        ("memory", (), 10),
        ("memory", (Audit(id="memory", passed=False, message="halved"),), 0),
    ],
)
def test_a_check_gives_all_points_or_none(check: str, audits: tuple[Audit, ...], points: float) -> None:
    marked = grade(replace(EVALUATION, audits=audits), rubric(Criterion(id="c", title="C", points=10, check=check))).criteria[0]
    assert marked.points == points
    assert marked.message


@pytest.mark.parametrize(
    ("after", "late", "points", "share"),
    [
        (timedelta(0), Late(due=DUE), 8, None),
        (timedelta(microseconds=1), Late(due=DUE), 7.2, 0.1),
        (timedelta(hours=24), Late(due=DUE), 7.2, 0.1),
        (timedelta(hours=24, microseconds=1), Late(due=DUE), 6.4, 0.2),
        (timedelta(days=300), Late(due=DUE), 0, 1.0),
        (timedelta(days=300), Late(due=DUE, most=0.5), 4, 0.5),
        (timedelta(minutes=10), Late(due=DUE, grace_minutes=10), 8, None),
        (timedelta(minutes=11), Late(due=DUE, grace_minutes=10), 7.2, 0.1),
        (timedelta(minutes=31), Late(due=DUE, hours=0.5, share=0.07), 6.88, 0.14),
        (timedelta(days=-1), Late(due=DUE), 8, None),
    ],
)
def test_lateness_takes_a_share_for_each_period_begun(after: timedelta, late: Late, points: float, share: float | None) -> None:
    marked = mark(0.8, Linear(start=0, end=1), grading=Grading(late=late), received_at=DUE + after)
    assert marked.points == points
    assert (None if marked.late is None else marked.late.share) == share


def test_what_lateness_took_is_told_in_hours_share_and_points() -> None:
    marked = mark(0.8, Linear(start=0, end=1), grading=Grading(late=Late(due=DUE)), received_at=DUE + timedelta(hours=36))
    assert marked.late is not None
    assert (marked.late.hours, marked.late.share, marked.late.points) == (36, 0.2, 1.6)
    assert marked.criteria[0].points == 8


def test_a_late_mark_can_be_worked_out_again_from_its_report() -> None:
    grading = Grading(rounding=Rounding(step=0.5), late=Late(due=DUE, share=0.03, hours=1))
    for hours in range(1, 40):
        marked = mark(0.777, Linear(start=0, end=1), points=100, grading=grading, received_at=DUE + timedelta(hours=hours))
        assert marked.late is not None
        earned = sum(Fraction(repr(criterion.points)) for criterion in marked.criteria)
        left = earned * (1 - Fraction(repr(marked.late.share)))
        assert marked.points == float((left * 2 + Fraction(1, 2)) // 1 / 2)
        assert marked.points + marked.late.points == 77.5


def test_pass_and_band_follow_from_what_lateness_leaves() -> None:
    grading = Grading(pass_mark=0.5, bands=(Band(grade="A", start=0.8), Band(grade="F", start=0)), late=Late(due=DUE, share=0.5))
    marks = [mark(0.9, Linear(start=0, end=1), grading=grading, received_at=DUE + timedelta(hours=h)) for h in (0, 1)]
    assert [(marked.passed, marked.band) for marked in marks] == [(True, "A"), (False, "F")]


def test_a_due_date_at_the_end_of_time_is_no_error() -> None:
    late = Late(due=datetime.max.replace(tzinfo=UTC), grace_minutes=1e6)
    assert mark(0.8, Linear(start=0, end=1), grading=Grading(late=late), received_at=DUE).late is None


@pytest.mark.parametrize(("points", "value", "start"), [(9, 0.9, 0.9), (6, 0.8, 0.8), (3, 0.8, 0.8), (7, 0.7, 0.7), (3, 0.1, 0.1)])
def test_a_share_that_is_reached_is_reached(points: float, value: float, start: float) -> None:
    grading = Grading(pass_mark=start, bands=(Band(grade="A", start=start), Band(grade="F", start=0)))
    marked = mark(value, Linear(start=0, end=1), points=points, grading=grading)
    assert (marked.band, marked.passed, marked.share) == ("A", True, value)


@given(
    steps=st.integers(1, 10_000),
    points=st.integers(1, 10_000),
    digits=st.integers(0, 2),
    taken=st.integers(0, 10),
)
def test_shares_are_those_of_the_decimals_that_are_shown(steps: int, points: int, digits: int, taken: int) -> None:
    """Band and pass mark are set to the very share that the decimals come to, where that has few enough digits to be written."""
    possible, earned = Decimal(points).scaleb(-digits), Decimal(min(steps, points)).scaleb(-digits)
    left = earned * (10 - taken) / 10
    share = Fraction(left) / Fraction(possible)
    assume(10**6 % share.denominator == 0)
    start = float(share)
    grading = Grading(
        pass_mark=start, bands=(Band(grade="A", start=start),), rounding=Rounding(step=0.0001), late=Late(due=DUE, share=taken / 10)
    )
    criterion = Criterion(id="c", points=float(possible), metric="m", scoring=Steps(steps=((0.5, float(earned)),)))
    evaluation = replace(EVALUATION, metrics=(Metric(id="m", split="all", value=0.5, n=10, higher_is_better=True),))
    marked = grade(evaluation, rubric(criterion, grading=grading), DUE + timedelta(hours=1))
    assert (marked.points, marked.band, marked.passed) == (float(left), "A", True)
