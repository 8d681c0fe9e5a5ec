"""What people read in a terminal: tables of submissions, findings and rankings. Text from strangers is made printable."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from fifomark.core.text import shown

if TYPE_CHECKING:  # whoever has one of these has its module; a command need not load those of the others
    from fifomark.core.findings import Finding
    from fifomark.core.inspection import Inspection
    from fifomark.core.outcome import Audit, Metric
    from fifomark.core.report import CriterionMark, Grade, Lateness, Report
    from fifomark.core.status import Line, Status
    from fifomark.reports.feedback import AttemptsUsed, CriterionSeen, GradeSeen, LatenessSeen, StudentReport
    from fifomark.reports.leaderboard import Row

_UPLOADS = 10  # names that `status` lists


def status(seen: Status) -> str:
    """How a spool stands: the daemon, its slots, who waits, what ended last."""
    daemon = seen.daemon
    lines = [
        f"{seen.spool}: "
        + (
            f"{daemon.mode}, process {daemon.pid} on {daemon.host}, since {daemon.started_at:%Y-%m-%d %H:%M:%S} UTC"
            if daemon
            else "no daemon"
        ),
        ", ".join(f"{count} {state}" for state, count in seen.states.items() if count) or "nothing was submitted yet",
    ]
    lines += [f"paused {seen.paused}: nothing new is started; go on with: fifomark resume"] if seen.paused else []
    lines += [f"note: {shown(notice, 1000)}" for notice in seen.notices]
    lines += [f"left alone, hidden or still being uploaded: {name}" for name in seen.uploads[:_UPLOADS]]
    lines += [f"… and {len(seen.uploads) - _UPLOADS} more" for _ in seen.uploads[_UPLOADS : _UPLOADS + 1]]
    if seen.slots:
        lines.append("slots: " + ", ".join(f"{s.name} {s.state}" + (f" ({s.why})" if s.why else "") for s in seen.slots))
    for title, rows in (("waiting", seen.queue), ("ended last", seen.recent)):
        if rows:
            lines += ["", f"{title}:", _submissions(rows)]
    return "\n".join(lines)


def _submissions(rows: Iterable[Line]) -> str:
    return _table(
        ("id", "name", "rubric", "state", "verdict", "family", "points", "why"),
        [
            (
                f"{row.id:08d}",
                shown(row.name, 40),
                row.rubric,
                row.state,
                row.verdict or "",
                row.family or "",
                _points(row.points, row.points_possible),
                shown(row.message or "", 70) if row.reason != "marked" else "",
            )
            for row in rows
        ],
    )


def _points(points: float | None, possible: float | None) -> str:
    return "" if points is None or possible is None else f"{points:g}/{possible:g}"


def leaderboard(rows: Sequence[Row], style: str = "simple") -> str:
    """`style` is tabulate's name of a format ("simple", "pipe" for Markdown)."""
    headers, body = _ranking(rows)
    if style == "pipe":
        body = [tuple(_escaped(cell) for cell in row) for row in body]
    return _table(headers, body, style)


def _escaped(cell: object) -> str:
    """Fit for a Markdown table: no cell ends early, no owner's name is HTML."""
    return str(cell).replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|")


def leaderboard_csv(rows: Sequence[Row]) -> str:
    headers, body = _ranking(rows)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(headers)
    # A spreadsheet takes a cell that begins with one of these as a formula, and owners choose their names.
    writer.writerows([["'" + str(cell) if str(cell).startswith(("=", "+", "-", "@")) else cell for cell in row] for row in body])
    return out.getvalue()


def _ranking(rows: Sequence[Row]) -> tuple[list[str], list[tuple[object, ...]]]:
    """Headers and cells; a column in which nobody may be told anything is left out."""
    metrics = list(dict.fromkeys(id for row in rows for id in row.metrics if id != "parameters"))
    columns: dict[str, list[object]] = {
        "rank": [row.rank for row in rows],
        "owner": [shown(row.owner, 40) for row in rows],
        "family": [row.family for row in rows],
        "points": [None if row.points is None else _points(row.points, row.points_possible) for row in rows],
        "share": [None if row.share is None else f"{row.share:.1%}" for row in rows],
        "band": [None if row.points is None else row.band or "" for row in rows],
        **{metric: [_number(row.metrics.get(metric)) for row in rows] for metric in metrics},
        "parameters": [row.parameters for row in rows],
        "id": [None if row.id is None else f"{row.id:08d}" for row in rows],
    }
    told = {header: cells for header, cells in columns.items() if not rows or any(cell is not None for cell in cells)}
    return list(told), [tuple("" if cell is None else cell for cell in row) for row in zip(*told.values(), strict=True)]


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.0f}" if value == int(value) and abs(value) >= 10 else f"{value:.4f}"


def inspection(seen: Inspection) -> str:
    """One file's inspection as a person reads it."""
    weights = f"{seen.weights.parameters:,} parameters in {len(seen.weights.tensors)} tensors" if seen.weights else "no weights"
    family = seen.family.name if seen.family else "unknown"
    lines = [f"{shown(seen.path, 300)}: {seen.verdict}", f"  {seen.form or seen.container or 'not a torch file'}, {family}, {weights}"]
    if seen.sha256:
        lines.append(f"  sha256 {seen.sha256}")
    lines += [f"  would run: {call}" for call in seen.would_run]
    return _printable([*lines, *_findings(seen.findings)])


def report(seen: Report) -> str:
    """One report as the operator reads it."""
    lines = [
        (f"{seen.id:08d} " if seen.id else "")  # marked without a spool it has none
        + f"{seen.submission.name}: {seen.state}"
        + (f" ({seen.verdict})" if seen.verdict else ""),
        f"  {seen.reason.message}",
    ]
    if seen.model:
        lines.append(f"  {seen.model.family}: {seen.model.parameters:,} parameters; " + "; ".join(seen.model.evidence))
        lines += [f"  assumed: {sentence}" for sentence in seen.model.assumed]
    lines += [f"  would run: {call}" for call in seen.would_run]
    if seen.evaluation:
        if seen.evaluation.sandbox is not None:
            lines.append(f"  its own TorchScript was run, locked in by {seen.evaluation.sandbox}")
        lines += _measured(seen.evaluation.metrics, seen.evaluation.audits)
    if seen.grade:
        lines += _criteria(seen.grade.criteria) + _late(seen.grade.late) + _result(seen.grade)
    return _printable([*lines, *_findings(seen.findings)])


def student(seen: StudentReport) -> str:
    """One report as its submitter reads it."""
    lines = [
        f"{seen.name}: {seen.state}" + (f" ({seen.verdict})" if seen.verdict else ""),
        f"  submission {seen.id}, received {seen.received_at:%Y-%m-%d %H:%M:%S} UTC",
        f"  {seen.reason.message}",
    ]
    if seen.model:
        lines.append(f"  {seen.model.family}: {seen.model.parameters:,} parameters; " + "; ".join(seen.model.evidence))
        lines += [f"  assumed: {sentence}" for sentence in seen.model.assumed]
    lines += [f"  would run: {call}" for call in seen.would_run]
    lines += _measured(seen.metrics, seen.audits) + (_criteria(seen.grade.criteria) if seen.grade else [])
    lines += _late(seen.late) + (_result(seen.grade) if seen.grade else [])
    if seen.attempts:
        lines += _attempts(seen.attempts)
    if seen.pseudonym:
        lines.append(f"  on the leaderboard: {seen.pseudonym}")
    return _printable([*lines, *_findings(seen.findings)])


def _measured(metrics: Iterable[Metric], audits: Iterable[Audit]) -> list[str]:
    """Numbers, each with its split where there are several, and what the audits say."""
    lines = []
    for metric in metrics:
        of = "" if metric.split == "all" else f" ({metric.split})"
        lines.append(f"  {metric.id}{of} = {_number(metric.value)}{_interval(metric.ci95)}{f': {metric.reason}' if metric.reason else ''}")
    return [*lines, *(f"  {'passed' if audit.passed else 'not passed'}: {audit.message}" for audit in audits)]


def _criteria(criteria: Iterable[CriterionMark | CriterionSeen]) -> list[str]:
    return [f"  {c.points:g}/{c.points_possible:g}  {c.title}: {c.message}" for c in criteria]


def _late(late: Lateness | LatenessSeen | None) -> list[str]:
    if late is None:
        return []
    points = "" if late.points is None else f" ({late.points:g})"
    return [f"  {late.hours:,.1f} hours late: {late.share:.0%} of the points{points} are taken off"]


def _attempts(seen: AttemptsUsed) -> list[str]:
    limits = ((seen.used, seen.max_total, ""), (seen.used_that_day, seen.max_per_day, " of that day"))
    return [f"  {used} of {most} attempts{when} are used" for used, most, when in limits if most is not None]


def _result(grade: Grade | GradeSeen) -> list[str]:
    band = f", {grade.band}" if grade.band else ""
    return [f"  {_points(grade.points, grade.points_possible)} points{band}: {'pass' if grade.passed else 'fail'}"]


def _interval(bounds: tuple[float, float] | None) -> str:
    return f" (95 %: {bounds[0]:.4f} to {bounds[1]:.4f})" if bounds else ""


def _printable(lines: Iterable[str]) -> str:
    """Names of tensors, classes and owners are strangers' words: none of them may break a line or command a terminal."""
    return "\n".join(shown(line, 4000) for line in lines)


def _findings(findings: Iterable[Finding]) -> list[str]:
    lines = []
    for finding in findings:
        lines.append(f"  {finding.level} {finding.code} {finding.where}: {finding.message}")
        if finding.evidence:
            lines.append(f"      seen: {shown(finding.evidence, 300)}")
        lines.append(f"      → {finding.advice}")
    return lines


def _table(headers: Sequence[str], rows: Sequence[Sequence[object]], style: str = "simple") -> str:
    from tabulate import tabulate  # not for `inspect`, which shows no table: this takes longer to import than all the rest here

    return tabulate(rows, headers=headers, tablefmt=style, disable_numparse=True)
