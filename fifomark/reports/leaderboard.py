"""Who is ahead: a ranking computed from the reports in done/."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from msgspec.structs import replace

from fifomark.core.record import Record
from fifomark.core.report import Report


class Row(Record):
    """An owner's best report. `metrics` are the values at full precision, by their id; `rank` is shared by equal ones."""

    rank: int
    owner: str
    id: int
    name: str
    family: str
    points: float
    points_possible: float
    share: float
    band: str | None
    passed: bool
    metrics: dict[str, float | None]
    parameters: int
    verdict: str


def ranked(reports: Iterable[Report], rubric: str, primary: str) -> list[Row]:
    """The best submission of each owner under `rubric` by the metric `primary`, best first; ties go to the earlier submission."""
    best: dict[str, Report] = {}
    marked = (report for report in reports if report.grade is not None and report.submission.rubric == rubric)
    for report in sorted(marked, key=lambda report: _merit(report, primary)):
        best.setdefault(report.submission.owner, report)
    rows: list[Row] = []
    for position, report in enumerate(best.values(), 1):
        row = _row(report, position)
        rows.append(replace(row, rank=rows[-1].rank) if rows and row.metrics.get(primary) == rows[-1].metrics.get(primary) else row)
    return rows


def _merit(report: Report, primary: str) -> tuple[bool, float, datetime, int]:
    """Sorts the better first; a report without the number comes last."""
    metrics = report.evaluation.metrics if report.evaluation else ()
    metric = next((metric for metric in metrics if metric.id == primary and metric.value is not None), None)
    if metric is None or metric.value is None:
        return (True, 0.0, report.submission.received_at, report.id)
    return (False, metric.value if metric.higher_is_better is False else -metric.value, report.submission.received_at, report.id)


def _row(report: Report, rank: int) -> Row:
    assert report.grade is not None
    return Row(
        rank=rank,
        owner=report.submission.owner,
        id=report.id,
        name=report.submission.name,
        family=report.model.family if report.model else "unknown",
        points=report.grade.points,
        points_possible=report.grade.points_possible,
        share=report.grade.share,
        band=report.grade.band,
        passed=report.grade.passed,
        metrics={metric.id: metric.value for metric in report.evaluation.metrics} if report.evaluation else {},
        parameters=report.model.parameters if report.model else 0,
        verdict=str(report.verdict),
    )
