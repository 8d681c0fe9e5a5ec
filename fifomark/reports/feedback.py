"""What a submitter reads of their report: a projection. What is not named here never leaves, whatever reports come to hold."""

from __future__ import annotations

from datetime import datetime
from typing import Literal, NamedTuple

from msgspec.structs import replace

from fifomark.core.catalogue import RULES
from fifomark.core.findings import Finding, Verdict
from fifomark.core.outcome import Audit, Metric
from fifomark.core.record import Record
from fifomark.core.report import CriterionMark, Grade, ModelFacts, Report
from fifomark.core.states import State

SCHEMA: Literal["fifomark.feedback/1"] = "fifomark.feedback/1"
_OURS = "Something went wrong on our side. It is not your fault, and uses up no attempt; whoever runs the marking knows why."


class Why(Record):
    code: str
    message: str


class ModelSummary(Record):
    family: str
    evidence: tuple[str, ...]
    assumed: tuple[str, ...]
    parameters: int
    dtypes: tuple[str, ...]


class CriterionSeen(Record):
    """`value` is None where the number is kept back, or there is none."""

    id: str
    title: str
    points: float
    points_possible: float
    value: float | None
    message: str


class GradeSeen(Record, rename={"passed": "pass"}):
    """As in the report: `points` is what is left after lateness."""

    points: float
    points_possible: float
    share: float
    band: str | None
    passed: bool
    criteria: tuple[CriterionSeen, ...]


class LatenessSeen(Record):
    """`points` is None where points are not shown."""

    hours: float
    share: float
    points: float | None


class AttemptsUsed(Record):
    """What of an owner's attempts is used up now, and on the day this submission was received; None: as many as they like."""

    used: int
    max_total: int | None
    used_that_day: int
    max_per_day: int | None


class StudentReport(Record):
    """`metrics` and `grade` are empty and None where the rubric's [feedback] shows none; `pseudonym` is who they are on the leaderboard."""

    schema: Literal["fifomark.feedback/1"]
    id: int
    name: str
    owner: str
    rubric: str | None
    sha256: str | None
    received_at: datetime
    state: State
    verdict: Verdict | None
    reason: Why
    would_run: tuple[str, ...]
    findings: tuple[Finding, ...]
    model: ModelSummary | None
    metrics: tuple[Metric, ...]
    audits: tuple[Audit, ...]
    grade: GradeSeen | None
    late: LatenessSeen | None
    attempts: AttemptsUsed | None
    pseudonym: str | None


class Shown(NamedTuple):
    """What is shown: a rubric's [feedback]."""

    metrics: Literal["public", "all", "none"]
    digits: int
    criteria: bool

    def split(self, split: str) -> bool:
        """Whether numbers on `split` are; data that is not split keeps nothing back."""
        return self.metrics == "all" or (self.metrics == "public" and split != "private")

    def number(self, value: float) -> float:
        return significant(value, self.digits)


def significant(value: float, digits: int) -> float:
    """From a loss at full precision labels can be worked out."""
    return float(f"{value:.{digits}g}")


def feedback(report: Report, shown: Shown, attempts: AttemptsUsed | None = None, pseudonym: str | None = None) -> StudentReport:
    """The part of `report` that its submitter may read."""
    findings = tuple(_finding(finding, report.form) for finding in report.findings)
    grade, evaluation = report.grade, report.evaluation
    late = grade.late if grade else None
    return StudentReport(
        schema=SCHEMA,
        id=report.id,
        name=report.submission.name,
        owner=report.submission.owner,
        rubric=report.submission.rubric,
        sha256=report.submission.sha256,
        received_at=report.submission.received_at,
        state=report.state,
        verdict=report.verdict,
        reason=_reason(report, findings),
        would_run=report.would_run,
        findings=findings,
        model=_model(report.model) if report.model else None,
        metrics=tuple(_metric(metric, shown) for metric in evaluation.metrics if shown.split(metric.split)) if evaluation else (),
        audits=evaluation.audits if evaluation else (),
        grade=_grade(grade, report, shown) if grade and shown.criteria else None,
        late=LatenessSeen(hours=late.hours, share=late.share, points=shown.number(late.points) if shown.criteria else None)
        if late
        else None,
        attempts=attempts,
        pseudonym=pseudonym,
    )


def _finding(finding: Finding, form: str | None) -> Finding:
    """What was seen in their own file they may see. What was seen on the data, or in another's file, they may not.

    Code of theirs that was run (TorchScript) could put the data into the message of an error.
    """
    if finding.code[:3] not in ("FM6", "FM7"):
        return finding
    own_words = form == "torchscript" and finding.code.startswith("FM6")
    return replace(finding, evidence=None, message=RULES[finding.code].title if own_words else finding.message)


def _reason(report: Report, findings: tuple[Finding, ...]) -> Why:
    if report.reason.blame == "operator":
        return Why(code=report.reason.code, message=_OURS)
    told = report.form == "torchscript" and report.reason.code == "wrong-model" and findings
    return Why(code=report.reason.code, message=findings[0].message if told else report.reason.message)


def _model(model: ModelFacts) -> ModelSummary:
    return ModelSummary(
        family=model.family, evidence=model.evidence, assumed=model.assumed, parameters=model.parameters, dtypes=model.dtypes
    )


def _metric(metric: Metric, shown: Shown) -> Metric:
    if metric.value is None:
        return replace(metric, ci95=None, reason="there is no number")  # why, in the operator's words, may quote the data
    if not metric.n:  # a count of parameters is no secret
        return replace(metric, reason=None)
    low, high = metric.ci95 or (0.0, 0.0)
    ci95 = (shown.number(low), shown.number(high)) if metric.ci95 else None
    return replace(metric, value=shown.number(metric.value), ci95=ci95, reason=None)


def _grade(grade: Grade, report: Report, shown: Shown) -> GradeSeen:
    """Points in proportion to a number tell that number: they are shown with no more digits than it would be."""
    return GradeSeen(
        points=shown.number(grade.points),
        points_possible=grade.points_possible,
        share=shown.number(grade.share),
        band=grade.band,
        passed=grade.passed,
        criteria=tuple(_criterion(criterion, report, shown) for criterion in grade.criteria),
    )


def _criterion(criterion: CriterionMark, report: Report, shown: Shown) -> CriterionSeen:
    value, message = None, criterion.message
    if criterion.value is not None:
        metrics = report.evaluation.metrics if report.evaluation else ()
        metric = next((m for m in metrics if (m.id, m.split) == (criterion.metric, criterion.split)), None)
        message = criterion.wanted
        if metric is not None and shown.split(metric.split) and (value := _metric(metric, shown).value) is not None:
            message = f"{metric.id} {value:,g}: {criterion.wanted}"
    elif criterion.metric is not None:
        message = "there was no number to judge by"
    return CriterionSeen(
        id=criterion.id,
        title=criterion.title,
        points=shown.number(criterion.points),
        points_possible=criterion.points_possible,
        value=value,
        message=message,
    )
