"""What `rubric check` says: the mark of a reference model beside that of what knows nothing, and what is wrong with a rubric by these."""

from __future__ import annotations

from collections.abc import Iterator

from tabulate import tabulate

from fifomark.core.record import Record
from fifomark.core.report import Grade, Report
from fifomark.reports import tables


class Checked(Record):
    """`fifomark.rubric-check/1`. `reference` is the report on the reference model, where there was one.

    `problems` are what makes the rubric no good; `notes` what is worth a look.
    """

    schema: str
    baseline: Grade
    reference: Report | None
    problems: tuple[str, ...]
    notes: tuple[str, ...] = ()


def conclude(baseline: Grade, reference: Report | None) -> Checked:
    problems = []
    if baseline.passed:
        problems.append("what knows nothing of its input passes: ask for more, or raise grading.pass_mark")
    if reference is not None and reference.grade is None:
        problems.append(f"the reference model has no mark: {reference.reason.message}")
    elif reference is not None and reference.grade is not None:
        if not reference.grade.passed:
            problems.append("the reference model does not pass: ask for less, or take a better one")
        if reference.grade.points <= baseline.points:
            problems.append("the reference model is worth no more than what knows nothing: the criteria tell no model from another")
    return Checked(
        schema="fifomark.rubric-check/1",
        baseline=baseline,
        reference=reference,
        problems=tuple(problems),
        notes=tuple(_alike(baseline, reference)) if reference is not None else (),
    )


def _alike(baseline: Grade, reference: Report) -> Iterator[str]:
    """The criteria over a metric of the data that give both the same points. A model's size and speed say nothing of what it knows."""
    if reference.grade is None or reference.evaluation is None:
        return
    on_data = {(metric.id, metric.split) for metric in reference.evaluation.metrics if metric.n}
    marks = {mark.id: mark for mark in reference.grade.criteria}
    for mark in baseline.criteria:
        if (mark.metric, mark.split) in on_data and marks[mark.id].points == mark.points:
            both = f"{mark.points:g} of {mark.points_possible:g} points to both"
            yield f"criterion.{mark.id}: it gives the reference model no more than what knows nothing, {both}"


def table(seen: Checked) -> str:
    """Points of both, criterion by criterion; below, the whole report on the reference model."""
    marks = {mark.id: mark for mark in seen.reference.grade.criteria} if seen.reference and seen.reference.grade else {}
    rows = [
        (
            mark.title,
            f"{mark.points_possible:g}",
            _scored(mark.points, mark.value),
            _scored(marks[mark.id].points, marks[mark.id].value) if marks else "",
        )
        for mark in seen.baseline.criteria
    ]
    total = seen.reference.grade if seen.reference else None
    rows.append(("in all", f"{seen.baseline.points_possible:g}", f"{seen.baseline.points:g}", f"{total.points:g}" if total else ""))
    columns = 4 if seen.reference else 3
    headers = ("criterion", "points", "knows nothing", "reference")[:columns]
    text = tabulate([row[:columns] for row in rows], headers=headers, tablefmt="simple", disable_numparse=True)
    text += "".join(f"\nlook at {note}" for note in seen.notes)
    return f"{text}\n\n{tables.report(seen.reference)}" if seen.reference else text


def _scored(points: float, value: float | None) -> str:
    return f"{points:g}" + (f" ({value:.4g})" if value is not None else "")
