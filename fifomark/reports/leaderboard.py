"""Who is ahead: a ranking computed from the reports in done/. It is made to be shown to those who are in it."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable, Iterable
from functools import partial

from fifomark.core.outcome import Metric
from fifomark.core.record import Record
from fifomark.core.report import Report
from fifomark.reports.feedback import significant
from fifomark.reports.standing import Keep, standing


class Row(Record):
    """The report of an owner that stands. `metrics` are values by their id; `rank` is shared by those that are equal at full precision.

    Where others are ranked under pseudonyms, `id` and `name` are None, and `owner` is the pseudonym. Points, share, band and pass are None
    where they were given for examples that this ranking is not of: they would tell what is kept back.
    """

    rank: int
    owner: str
    id: int | None
    name: str | None
    family: str
    points: float | None
    points_possible: float | None
    share: float | None
    band: str | None
    passed: bool | None
    metrics: dict[str, float | None]
    parameters: int
    verdict: str


def ranked(
    reports: Iterable[Report],
    rubric: str,
    primary: str,
    *,
    split: str = "all",
    keep: Keep = "best",
    digits: int = 17,
    pseudonym: Callable[[str], str] | None = None,
) -> list[Row]:
    """What stands of each owner under `rubric`, by the metric `primary` on `split`, best first; ties go to the earlier submission.

    `digits`: significant ones of a number on the data, at most (17: all of them). `pseudonym` gives the name to show for an owner's.
    """
    merit = partial(_merit, primary=primary, split=split)
    rows: list[Row] = []
    before: Report | None = None
    for position, report in enumerate(standing((r for r in reports if r.submission.rubric == rubric), keep, merit), 1):
        rank = rows[-1].rank if before and merit(before) == merit(report) else position
        rows.append(_row(report, rank, split, digits, pseudonym))
        before = report
    return rows


def pseudonym(key: bytes, rubric: str, owner: str) -> str:
    """The same for an owner under a rubric as long as the key is; without it nobody can tell whose it is, or that two are of one owner."""
    digest = hmac.digest(key, f"{rubric}\0{owner}".encode("utf-8", "surrogatepass"), hashlib.sha256)
    return "anon-" + base64.b32encode(digest[:5]).decode().lower()


def _measured(report: Report, split: str) -> list[Metric]:
    """The metrics on `split`, and those of the model itself."""
    metrics = report.evaluation.metrics if report.evaluation else ()
    return [metric for metric in metrics if metric.split in (split, "all")]


def _merit(report: Report, primary: str, split: str) -> float | None:
    metric = next((metric for metric in _measured(report, split) if metric.id == primary and metric.value is not None), None)
    if metric is None or metric.value is None:
        return None
    return -metric.value if metric.higher_is_better is False else metric.value


def _told(metric: Metric, digits: int) -> float | None:
    return metric.value if metric.value is None or not metric.n else significant(metric.value, digits)


def _row(report: Report, rank: int, split: str, digits: int, pseudonym: Callable[[str], str] | None) -> Row:
    assert report.grade is not None
    told = report.grade if all(c.split in (None, "all", split) for c in report.grade.criteria) else None
    return Row(
        rank=rank,
        owner=pseudonym(report.submission.owner) if pseudonym else report.submission.owner,
        id=None if pseudonym else report.id,
        name=None if pseudonym else report.submission.name,
        family=report.model.family if report.model else "unknown",
        points=significant(told.points, digits) if told else None,
        points_possible=told.points_possible if told else None,
        share=significant(told.share, digits) if told else None,
        band=told.band if told else None,
        passed=told.passed if told else None,
        metrics={metric.id: _told(metric, digits) for metric in _measured(report, split)},
        parameters=report.model.parameters if report.model else 0,
        verdict=str(report.verdict),
    )
