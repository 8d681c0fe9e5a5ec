from __future__ import annotations

import pytest

from fifomark.core.outcome import Cost, Evaluation, Metric
from fifomark.core.report import Grade
from fifomark.marking.grade import grade
from fifomark.marking.schema import About, DataFile, Input, MetricRule, ModelRules, Rubric, Task
from fifomark.marking.terms import Band, Criterion, Grading, Linear, Rounding, Scoring, Steps, Threshold


def mark(value: float | None, scoring: Scoring, *, points: float = 10, better: bool | None = True, grading: Grading | None = None) -> Grade:
    rubric = Rubric(
        about=About(schema="fifomark.rubric/1", id="r", title="R"),
        task=Task(num_classes=2),
        model=ModelRules(families=("mlp",)),
        input=Input(shape=(4,)),
        data=DataFile(path="x.npz"),
        metrics=(MetricRule(id="m", kind="MulticlassAccuracy", precision=2),),
        criteria=(Criterion(id="c", title="C", points=points, metric="m", scoring=scoring),),
        grading=grading or Grading(),
    )
    metric = Metric(id="m", split="all", value=value, n=10, higher_is_better=better, reason=None if value is not None else "it gave NaN")
    evaluation = Evaluation(
        rubric_sha256="", dataset_sha256="", device="cpu", metrics=(metric,), audits=(), cost=Cost(forward_seconds=0, total_seconds=0)
    )
    return grade(evaluation, rubric)


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
