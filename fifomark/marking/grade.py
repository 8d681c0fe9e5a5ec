"""From the numbers of an evaluation to points: arithmetic only, so that a mark can be worked out again from its report."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal
from math import fsum

from fifomark.core.outcome import Evaluation, Metric
from fifomark.core.report import CriterionMark, Grade
from fifomark.marking.schema import Rubric
from fifomark.marking.terms import Criterion, Grading, Linear, Scoring, Steps, Threshold


def grade(evaluation: Evaluation, rubric: Rubric) -> Grade:
    """The mark of a model that was evaluated. `share` and `band` follow from the rounded points: what is shown is what counts."""
    metrics = {metric.id: metric for metric in evaluation.metrics}
    marks = tuple(_marked(criterion, metrics, rubric) for criterion in rubric.criteria)
    possible = fsum(mark.points_possible for mark in marks)
    points = min(_rounded(fsum(mark.points for mark in marks), rubric.grading.rounding.step), possible)
    share = points / possible
    return Grade(
        points=points,
        points_possible=possible,
        share=share,
        band=_band(share, rubric.grading),
        passed=share >= rubric.grading.pass_mark,
        criteria=marks,
    )


def _marked(criterion: Criterion, metrics: dict[str, Metric], rubric: Rubric) -> CriterionMark:
    if criterion.metric is None or criterion.scoring is None:
        return _mark(criterion, criterion.points, None, "the model was built from its weights and ran")
    metric = metrics[criterion.metric]
    if metric.value is None:
        return _mark(criterion, 0.0, None, f"no {metric.id}: {metric.reason}")
    rule = next(rule for rule in rubric.metrics if rule.id == metric.id)
    points = _points(criterion.scoring, metric.value, criterion.points, less_is_better=metric.higher_is_better is False)
    message = f"{metric.id} {metric.value:.{rule.precision}f}: {_said(criterion.scoring, less_is_better=metric.higher_is_better is False)}"
    return _mark(criterion, points, metric.value, message)


def _mark(criterion: Criterion, points: float, value: float | None, message: str) -> CriterionMark:
    return CriterionMark(
        id=criterion.id, title=criterion.title, points=points, points_possible=criterion.points, value=value, message=message
    )


def _points(scoring: Scoring, value: float, points: float, *, less_is_better: bool) -> float:
    match scoring:
        case Threshold(at_least=least, at_most=most):
            return points if (least is None or value >= least) and (most is None or value <= most) else 0.0
        case Linear(start=start, end=end):
            return points * min(max((value - start) / (end - start), 0.0), 1.0)
        case Steps(steps=steps):
            return max((given for at, given in steps if (value <= at if less_is_better else value >= at)), default=0.0)


def _said(scoring: Scoring, *, less_is_better: bool) -> str:
    match scoring:
        case Threshold(at_least=least, at_most=most):
            ends = (("at least", least), ("at most", most))
            return "wanted " + " and ".join(f"{word} {_short(end)}" for word, end in ends if end is not None)
        case Linear(start=start, end=end):
            return f"no points at {_short(start)}, all at {_short(end)}"
        case Steps(steps=steps):
            return ", ".join(f"{points:g} from {_short(at)} {'down' if less_is_better else 'up'}" for at, points in steps)


def _short(number: float) -> str:
    return f"{number:,.10g}"


def _rounded(points: float, step: float) -> float:
    """Half up, in decimals: 0.5 × 20 points of a step 0.5 must not be lost to the last bit of a float."""
    exact = Decimal(repr(round(points, 9)))
    size = Decimal(repr(step))
    return float((exact / size).quantize(Decimal(1), ROUND_HALF_UP) * size)


def _band(share: float, grading: Grading) -> str | None:
    reached = [band for band in grading.bands if share >= band.start]
    return max(reached, key=lambda band: band.start).grade if reached else None
