"""From the numbers of an evaluation to points: arithmetic only, so that a mark can be worked out again from its report."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from decimal import ROUND_CEILING, ROUND_HALF_UP, Decimal
from fractions import Fraction
from functools import lru_cache
from math import fsum

from fifomark.core.outcome import Evaluation, Metric
from fifomark.core.report import CriterionMark, Grade, Lateness
from fifomark.marking.schema import Rubric
from fifomark.marking.terms import Criterion, Grading, Late, Linear, Scoring, SplitName, Steps, Threshold

_HOUR = Decimal(3_600_000_000)  # microseconds


def grade(evaluation: Evaluation, rubric: Rubric, received_at: datetime | None = None) -> Grade:
    """The mark of a model that was evaluated, and handed in at `received_at` (None: in time, whenever that is).

    `share`, `band` and `passed` follow from the points as they are shown: rounded, and after what lateness takes. All is reckoned in
    decimals, as the rubric's author wrote and would do it: 8.1 of 9 points are 0.9 of them, which floats are not.
    """
    marks = tuple(_marked(criterion, evaluation, rubric) for criterion in rubric.criteria)
    possible = exact(mark.points_possible for mark in marks)
    earned, step = exact(mark.points for mark in marks), rubric.grading.rounding.step
    points = full = rounded(earned, step, possible)
    late = None
    if (taken := _lateness(rubric.grading.late, received_at)) is not None:
        hours, of_points = taken
        points = rounded(earned * (1 - of_points), step, full)
        late = Lateness(hours=hours, share=float(of_points), points=float(full - points))
    share = Fraction(points) / Fraction(possible)
    return Grade(
        points=float(points),
        points_possible=float(possible),
        share=float(share),
        band=_band(share, rubric.grading),
        passed=share >= _written(rubric.grading.pass_mark),
        criteria=marks,
        late=late,
    )


def _lateness(late: Late | None, received_at: datetime | None) -> tuple[float, Decimal] | None:
    """Hours after due and grace, and the share of the points that they cost; None for what came in time."""
    if late is None or received_at is None:
        return None
    over = (received_at - late.due - timedelta(minutes=late.grace_minutes)) // timedelta(microseconds=1)
    if over <= 0:
        return None
    begun = (over / (Decimal(repr(late.hours)) * _HOUR)).to_integral_value(ROUND_CEILING)
    return float(over / _HOUR), min(Decimal(repr(late.share)) * begun, Decimal(repr(late.most)))


def _marked(criterion: Criterion, evaluation: Evaluation, rubric: Rubric) -> CriterionMark:
    if criterion.metric is None or criterion.scoring is None:
        return _checked(criterion, evaluation)
    metric = _measured(evaluation, criterion.metric, rubric.split_of(criterion))
    less_is_better = metric.higher_is_better is False
    wanted = _said(criterion.scoring, less_is_better=less_is_better)
    if metric.value is None:
        return _mark(criterion, 0.0, f"no {metric.id}: {metric.reason}", metric, wanted)
    rule = next(rule for rule in rubric.metrics if rule.id == metric.id)
    points = _points(criterion.scoring, metric.value, criterion.points, less_is_better=less_is_better)
    of = "" if metric.split == "all" else f" on the {metric.split} examples"
    return _mark(criterion, points, f"{metric.id} {metric.value:.{rule.precision}f}{of}: {wanted}", metric, wanted)


def _measured(evaluation: Evaluation, id: str, split: SplitName) -> Metric:
    """A metric on `split`, or that of the model itself, which has none."""
    found = {metric.split: metric for metric in evaluation.metrics if metric.id == id}
    return found[split] if split in found else found["all"]


def _checked(criterion: Criterion, evaluation: Evaluation) -> CriterionMark:
    """All points for a check that is passed. What no audit looked at is not; but out of memory is told only where it happened."""
    if criterion.check == "loads":
        return _mark(criterion, criterion.points, "the model was built from its weights and ran")
    audit = next((audit for audit in evaluation.audits if audit.id == criterion.check), None)
    if audit is None and criterion.check == "memory":
        return _mark(criterion, criterion.points, "the model fitted into memory with the batch size asked for")
    if audit is None:
        return _mark(criterion, 0.0, f"{criterion.check} was not looked at")
    return _mark(criterion, criterion.points if audit.passed else 0.0, audit.message)


def _mark(criterion: Criterion, points: float, message: str, metric: Metric | None = None, wanted: str = "") -> CriterionMark:
    return CriterionMark(
        id=criterion.id,
        title=criterion.title or criterion.id,
        points=points,
        points_possible=criterion.points,
        value=metric.value if metric else None,
        message=message,
        metric=metric.id if metric else None,
        split=metric.split if metric else None,
        wanted=wanted,
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


def exact(points: Iterable[float]) -> Decimal:
    """Their sum: 0.1 + 0.2 is 0.3, and what floats add in the last digits is nobody's point."""
    return Decimal(repr(round(fsum(points), 9)))


def rounded(points: Decimal, step: float, most: Decimal) -> Decimal:
    """To the nearest multiple of `step`, half up, but no more than `most`."""
    size = Decimal(repr(step))
    return min((points / size).quantize(Decimal(1), ROUND_HALF_UP) * size, most)


@lru_cache(maxsize=256)
def _written(share: float) -> Fraction:
    """As the rubric has it: 0.9, and not the float that is nearest."""
    return Fraction(repr(share))


def _band(share: Fraction, grading: Grading) -> str | None:
    reached = [band for band in grading.bands if share >= _written(band.start)]
    return max(reached, key=lambda band: band.start).grade if reached else None
