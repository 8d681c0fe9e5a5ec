"""Whether what a rubric says of points, lateness, attempts and the ranking fits its metrics, audits and data."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from datetime import UTC, tzinfo
from itertools import pairwise
from typing import NamedTuple
from zoneinfo import ZoneInfo, available_timezones

from fifomark.families.family import did_you_mean
from fifomark.marking.grade import exact, rounded
from fifomark.marking.metric_names import ANY, BUILT_IN, SHARE, Bounds, bounds, more_is_better
from fifomark.marking.schema import MetricRule, Rubric
from fifomark.marking.terms import CHECKS, Criterion, Linear, Scoring, Steps, Threshold

Problem = tuple[str, str, str]  # key, problem, hint


def check_terms(rubric: Rubric, _: object) -> Iterator[Problem]:
    """What is wrong in [[criterion]], [grading], [attempts] and [leaderboard]."""
    yield from _criteria(rubric)
    yield from _grading(rubric)
    yield from _attempts(rubric)
    yield from _leaderboard(rubric)


def zone(name: str) -> tzinfo:
    """The time zone of that name; KeyError where there is none. UTC is there on machines without a time zone database too."""
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (ValueError, OSError) as e:  # a path, a folder of the database: no name of a zone
        raise KeyError(name) from e


def twice(names: Iterable[str]) -> list[str]:
    """Those of `names` that were there before."""
    seen = list(names)
    return [name for i, name in enumerate(seen) if name in seen[:i]]


def _criteria(rubric: Rubric) -> Iterator[Problem]:
    for id in twice(criterion.id for criterion in rubric.criteria):
        yield "criterion", f"two criteria are called {id!r}", "give each its own id"
    for criterion in rubric.criteria:
        key = f"criterion.{criterion.id}"
        if (criterion.metric is None) == (criterion.check is None):
            yield key, "judges nothing, or two things at once", "give it either metric and scoring, or check"
        if (criterion.metric is None) != (criterion.scoring is None):
            yield key, "metric and scoring go together", "give both, or a check instead"
        yield from _metric(rubric, criterion, key) if criterion.metric is not None else _check(rubric, criterion, key)
        yield from ((f"{key}.scoring", problem, hint) for problem, hint in _scoring(criterion))
        for rule in rubric.metrics:
            if rule.id == criterion.metric and criterion.scoring is not None:
                yield from _reach(rule, criterion.scoring, f"{key}.scoring")
    if not rubric.criteria:
        yield "criterion", "is missing", "say what the metrics are worth: [[criterion]] with id, points, metric and scoring"
    elif not sum(criterion.points for criterion in rubric.criteria):
        yield "criterion", "all criteria together give no points", ""
    for criterion in rubric.criteria:
        if not criterion.points:
            yield f"criterion.{criterion.id}.points", "is 0: it could give nobody anything", "say what it is worth, or leave it out"


def _metric(rubric: Rubric, criterion: Criterion, key: str) -> Iterator[Problem]:
    rules = {metric.id: metric for metric in rubric.metrics}
    rule = rules.get(str(criterion.metric))
    if rule is None:
        yield f"{key}.metric", f"there is no metric {criterion.metric!r}", did_you_mean(str(criterion.metric), list(rules))
    elif rule.kind not in BUILT_IN:  # of which too little may be bad as well
        yield from _split(rubric, f"{key}.split", criterion.split)
        better = more_is_better(rule)
        if better is not None and (against := _against(criterion.scoring, better)):
            less, other = ("more", "false") if better else ("less", "true")
            hint = f"{less} {rule.kind} is better; if not here, say higher_is_better = {other} of the metric"
            yield f"{key}.scoring", f"gives points for worse models: {against}", hint


def _against(scoring: Scoring | None, more_is_better: bool) -> str | None:
    """What in the scoring goes against the metric's sense."""
    match scoring:
        case Linear(start=start, end=end) if start != end and (start < end) is not more_is_better:
            return f"all at {end:g}, none at {start:g}"
        case Threshold(at_least=least, at_most=None) if least is not None and not more_is_better:
            return f"from {least:g} up"
        case Threshold(at_least=None, at_most=most) if most is not None and more_is_better:
            return f"from {most:g} down"
        case Steps(steps=steps):
            ordered = sorted(steps, reverse=not more_is_better)
            for (easy, some), (hard, points) in pairwise(ordered):
                if points <= some:
                    return f"{some:g} at {easy:g}, and no more at {hard:g}"
    return None


class _Goal(NamedTuple):
    """What gives all points: `at` and more, or `at` and less."""

    key: str
    at: float
    upwards: bool


def _goals(scoring: Scoring, more_is_better: bool) -> Iterator[_Goal]:
    match scoring:
        case Threshold(at_least=least, at_most=most):
            if least is not None:
                yield _Goal("at_least", least, True)
            if most is not None:
                yield _Goal("at_most", most, False)
        case Linear(start=start, end=end):
            yield _Goal("to", end, start < end)
        case Steps(steps=steps):
            hardest = max(steps, key=lambda step: step[1])
            yield _Goal("steps", hardest[0], more_is_better)


def _reach(rule: MetricRule, scoring: Scoring, key: str) -> Iterator[Problem]:
    """What the metric can never be, and what it cannot but be."""
    within, goals = bounds(rule.kind), list(_goals(scoring, more_is_better(rule) is not False))
    if within == ANY:
        return
    for goal in goals:
        if _beyond(goal, within):
            yield (
                f"{key}.{goal.key}",
                f"asks for {goal.at:g}, but {rule.kind} is {within}: nobody could have all points",
                _as_share(goal, within),
            )
    if goals and all(_always(goal, within) for goal in goals):
        asked = " and ".join(f"{goal.key} {goal.at:g}" for goal in goals)
        yield key, f"gives all points to every model ({asked}): {rule.kind} is {within}", _as_share(goals[-1], within)


def _beyond(goal: _Goal, within: Bounds) -> bool:
    if goal.upwards:
        return within.most is not None and goal.at > within.most
    return within.least is not None and goal.at < within.least


def _always(goal: _Goal, within: Bounds) -> bool:
    if goal.upwards:
        return within.least is not None and goal.at <= within.least
    return within.most is not None and goal.at >= within.most


def _as_share(goal: _Goal, within: Bounds) -> str:
    """For who wrote per cent."""
    return f"a share: {goal.at / 100:g}" if within == SHARE and 1 < goal.at <= 100 else ""


def _check(rubric: Rubric, criterion: Criterion, key: str) -> Iterator[Problem]:
    check = criterion.check
    if check is None:
        return
    if check not in CHECKS:
        yield f"{key}.check", f"there is no check {check!r}", did_you_mean(check, CHECKS)
    elif getattr(rubric.audits, check, None) == "off":
        yield f"{key}.check", f"the audit {check!r} is off", f'set audits.{check} = "flag", or leave this criterion out'
    if criterion.split is not None:
        yield f"{key}.split", "a check is not made on a split", "leave split out"


def _scoring(criterion: Criterion) -> Iterator[tuple[str, str]]:
    match criterion.scoring:
        case Threshold(at_least=None, at_most=None):
            yield "a threshold needs at_least, at_most, or both", ""
        case Threshold(at_least=least, at_most=most) if least is not None and most is not None and least > most:
            yield f"nothing is at least {least:g} and at most {most:g}", "the two may be the wrong way round"
        case Linear(start=start, end=end) if start == end:
            yield f"from and to are both {start:g}", "use kind = 'threshold' for all or nothing"
        case Steps(steps=steps):
            most = max(points for _, points in steps)
            if most > criterion.points:
                yield f"a step gives more than the criterion's {criterion.points:g} points", ""
            elif most < criterion.points:
                yield f"no step gives all of the criterion's {criterion.points:g} points", f"set points = {most:g}, or add a step"
            for at in twice(f"{at:g}" for at, _ in steps):
                yield f"two steps are at {at}", "give one of them another value"


def _split(rubric: Rubric, key: str, split: str | None) -> Iterator[Problem]:
    if split is None or split in rubric.splits:
        return
    if rubric.splits == ("all",):
        yield key, f"is {split!r}, but the data is not split", "set data.public or data.split, or leave this out"
    else:
        yield key, "is 'all', but the data is split", "say 'public' or 'private'"


def _grading(rubric: Rubric) -> Iterator[Problem]:
    possible, step = exact(criterion.points for criterion in rubric.criteria), rubric.grading.rounding.step
    if (most := rounded(possible, step, possible)) < possible:
        problem = f"makes {float(most):g} of all {float(possible):g} points, so that nobody could have full marks"
        yield "grading.rounding.step", problem, "take one that the points are a multiple of, such as 0.01 or 1"
    late = rubric.grading.late
    if late is not None and late.most < late.share:
        yield (
            "grading.late.most",
            f"is {late.most:g}, less than the share of {late.share:g} that the first delay costs",
            "most is what all lateness costs at most: say share, or more",
        )
    for grade in twice(band.grade for band in rubric.grading.bands):
        yield "grading.bands", f"two bands are called {grade!r}", "give each its own grade"
    for start in twice(f"{band.start:g}" for band in rubric.grading.bands):
        yield "grading.bands", f"two bands begin at {start}", "each needs its own from"


def _attempts(rubric: Rubric) -> Iterator[Problem]:
    attempts = rubric.attempts
    try:
        zone(attempts.day_zone)
    except KeyError:
        near = difflib.get_close_matches(attempts.day_zone, sorted(available_timezones()), n=1, cutoff=0.5)  # of some 600: not all are told
        hint = f"did you mean {near[0]!r}?" if near else 'a name of the time zone database is meant, such as "Europe/Berlin"'
        yield "attempts.day_zone", f"{attempts.day_zone!r} is no time zone", hint
    limited = attempts.max_total is not None or attempts.max_per_day is not None
    if limited and not attempts.counts:
        yield "attempts.counts", "is empty, so that no limit is ever reached", 'say which endings count, such as ["done", "rejected"]'


def _leaderboard(rubric: Rubric) -> Iterator[Problem]:
    ids = [metric.id for metric in rubric.metrics]
    primary = rubric.leaderboard.primary
    if primary is not None and primary not in ids:
        yield "leaderboard.primary", f"there is no metric {primary!r}", did_you_mean(primary, ids)
    yield from _split(rubric, "leaderboard.split", rubric.leaderboard.split)
