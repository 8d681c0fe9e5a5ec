"""The report: what the world reads. `fifomark.report/1`; keys are never renamed within a version."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

import msgspec

from fifomark.core.findings import Finding, Verdict
from fifomark.core.inspection import CleanFile
from fifomark.core.outcome import Evaluation, Reason
from fifomark.core.record import Record
from fifomark.core.states import State
from fifomark.core.weights import TensorSummary

SCHEMA: Literal["fifomark.report/1"] = "fifomark.report/1"


class SubmissionFacts(Record):
    """The file as it was dropped. Times are UTC; `mtime` is the file's own claim, `received_at` ours."""

    name: str
    owner: str
    rubric: str | None
    attempt: int
    received_at: datetime
    mtime: datetime
    size: int | None
    sha256: str | None


class ModelFacts(Record):
    """What the weights are. `declared` and `assumed` are filled once it was built."""

    family: str
    evidence: tuple[str, ...]
    alternatives: tuple[str, ...]
    declared: dict[str, Any]
    assumed: tuple[str, ...]
    parameters: int
    dtypes: tuple[str, ...]
    layers: tuple[TensorSummary, ...]


class CriterionMark(Record):
    """Points for one criterion; `value` is the number it was judged by, None where it is a check.

    `metric` and `split` say what that number is of, `wanted` what the rubric asks for; None and empty in reports of before they were kept.
    """

    id: str
    title: str
    points: float
    points_possible: float
    value: float | None
    message: str
    metric: str | None = None
    split: str | None = None
    wanted: str = ""


class Lateness(Record):
    """What lateness cost: `hours` after the due time and its grace, the `share` of the points earned that is taken for them, and how many
    `points` that is, rounded as the mark is."""

    hours: float
    share: float
    points: float


class Grade(Record, rename={"passed": "pass"}):
    """`points` is what is left after lateness; `share` is points / points_possible; `band` the operator's name for it, None where the
    rubric has no bands. `late` is None for what came in time."""

    points: float
    points_possible: float
    share: float
    band: str | None
    passed: bool
    criteria: tuple[CriterionMark, ...]
    late: Lateness | None = None


class Step(Record):
    state: State
    at: datetime


class Environment(Record):
    """What made the marks. `slot` and `torch` are None where no model was run."""

    fifomark: str
    python: str
    platform: str
    torch: str | None
    slot: str | None


class Report(Record):
    schema: Literal["fifomark.report/1"]
    id: int
    state: State
    verdict: Verdict | None
    reason: Reason
    submission: SubmissionFacts
    clean: CleanFile | None
    container: str | None
    form: str | None
    would_run: tuple[str, ...]
    findings: tuple[Finding, ...]
    model: ModelFacts | None
    evaluation: Evaluation | None
    grade: Grade | None
    timeline: tuple[Step, ...]
    environment: Environment


def encode(report: Report) -> bytes:
    return msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n"


def decode(body: bytes) -> Report:
    """A report as it was written; msgspec.ValidationError where it is none."""
    return msgspec.json.decode(body, type=Report)


def json_schema() -> dict[str, Any]:
    """The published JSON schema of a report (docs/report.schema.json)."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": SCHEMA, **msgspec.json.schema(Report)}
