"""What a submitter may read: every text and number of a report is made unlike any other, and looked for in what is shown."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from itertools import count
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from fifomark.core.findings import Finding, Level, Verdict
from fifomark.core.inspection import CleanFile
from fifomark.core.outcome import Audit, Cost, Evaluation, Metric, Reason
from fifomark.core.report import (
    SCHEMA,
    CriterionMark,
    Environment,
    Grade,
    Lateness,
    ModelFacts,
    Report,
    Step,
    SubmissionFacts,
)
from fifomark.core.states import State
from fifomark.core.weights import TensorSummary
from fifomark.reports import tables
from fifomark.reports.feedback import AttemptsUsed, Shown, StudentReport, feedback

AT = datetime(2026, 12, 1, tzinfo=UTC)
KEPT = ("schema", "state", "verdict", "code", "blame", "level", "received_at", "mtime", "at", "split", "form", "metric")
PARTS = (("id", 1), ("id", "a"), ("id", "b"), ("n", 0))  # what ties a criterion to its metric, and a metric to the model itself


def finding(code: str) -> Finding:
    return Finding(code=code, level=Level.WARNING, where="", message="", evidence="", advice="")


def metric(id: str, split: str, n: int = 10) -> Metric:
    return Metric(id=id, split=split, value=0.0, n=n, ci95=(0.0, 0.0), reason="")


def criterion(metric: str | None, split: str | None) -> CriterionMark:
    return CriterionMark(
        id="", title="", points=0.0, points_possible=0.0, value=0.0 if metric else None, message="", metric=metric, split=split, wanted=""
    )


FULL = Report(
    schema=SCHEMA,
    id=1,
    state=State.DONE,
    verdict=Verdict.FLAGGED,
    reason=Reason(code="marked", message="", blame=None),
    submission=SubmissionFacts(name="", owner="", rubric="", attempt=0, received_at=AT, mtime=AT, size=0, sha256=""),
    clean=CleanFile(size=0, sha256=""),
    container="",
    form="state_dict",
    would_run=("",),
    findings=(finding("FM205"), finding("FM608"), finding("FM701")),
    model=ModelFacts(
        family="", evidence=("",), alternatives=("",), declared={"x": ""}, assumed=("",), parameters=0, dtypes=("",),
        layers=(TensorSummary(name="", dtype="", shape=(0,), mean=0.0),),
    ),
    evaluation=Evaluation(
        rubric_sha256="",
        dataset_sha256="",
        device="",
        metrics=(metric("a", "public"), metric("a", "private"), metric("b", "all", n=0)),
        audits=(Audit(id="", passed=True, message=""),),
        cost=Cost(forward_seconds=0.0, total_seconds=0.0),
        findings=(finding("FM608"),),
        declared={"x": ""},
        assumed=("",),
        torch_version="",
    ),
    grade=Grade(
        points=0.0,
        points_possible=0.0,
        share=0.0,
        band="",
        passed=True,
        criteria=(criterion("a", "public"), criterion("a", "private"), criterion("b", "all"), criterion(None, None)),
        late=Lateness(hours=0.0, share=0.0, points=0.0),
    ),
    timeline=(Step(state=State.DONE, at=AT),),
    environment=Environment(fifomark="", python="", platform="", torch="", slot=""),
)  # fmt: skip


def filled(report: Report) -> tuple[Report, dict[str, str]]:
    """`report` with each text and number another, and the path of each: where it stood before."""
    numbers, places = count(1000001, 2), {}  # odd: as a decimal none ends in a zero

    def fill(value: Any, path: str) -> Any:
        if isinstance(value, dict):
            return {
                key: part if key in KEPT or (not isinstance(part, (dict, list)) and (key, part) in PARTS) else fill(part, f"{path}.{key}")
                for key, part in value.items()
            }
        if isinstance(value, list):
            return [fill(part, f"{path}[{i}]") for i, part in enumerate(value)]
        if isinstance(value, (bool, type(None))):
            return value
        mark = next(numbers)
        places[str(mark)] = path.lstrip(".")
        return f"s{mark}" if isinstance(value, str) else mark if isinstance(value, int) else mark / 10000

    made = fill(json.loads(msgspec.json.encode(report)), "")
    return msgspec.json.decode(json.dumps(made).encode(), type=Report), places


def leaves(seen: StudentReport, places: dict[str, str]) -> set[str]:
    """The paths of all that is found of a report in its submitter's JSON and table."""
    text = msgspec.json.encode(seen).decode() + tables.student(seen)
    found = re.findall(r"\d+", text.replace(".", "").replace(",", ""))
    return {places[digits] for digits in found if digits in places}


BASIC = {
    "submission.name", "submission.owner", "submission.rubric", "submission.sha256", "reason.message", "would_run[0]",
    "findings[0].where", "findings[0].message", "findings[0].evidence", "findings[0].advice",
    "findings[1].where", "findings[1].message", "findings[1].advice", "findings[2].where", "findings[2].message", "findings[2].advice",
    "model.family", "model.evidence[0]", "model.assumed[0]", "model.parameters", "model.dtypes[0]",
    "evaluation.audits[0].id", "evaluation.audits[0].message", "grade.late.hours", "grade.late.share",
}  # fmt: skip
POINTS = {
    "grade.points", "grade.points_possible", "grade.share", "grade.band", "grade.late.points",
    *(f"grade.criteria[{i}].{key}" for i in range(4) for key in ("id", "title", "points", "points_possible")),
    *(f"grade.criteria[{i}].wanted" for i in range(3)),
    "grade.criteria[3].message",
}  # fmt: skip
OWN = {f"evaluation.metrics[2].{key}" for key in ("value", "ci95[0]", "ci95[1]")}
PUBLIC = {f"evaluation.metrics[0].{key}" for key in ("value", "n", "ci95[0]", "ci95[1]")}
PRIVATE = {f"evaluation.metrics[1].{key}" for key in ("value", "n", "ci95[0]", "ci95[1]")}


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (Shown("none", 17, False), BASIC),
        (Shown("none", 17, True), BASIC | POINTS),
        (Shown("public", 17, False), BASIC | OWN | PUBLIC),
        (Shown("public", 17, True), BASIC | OWN | PUBLIC | POINTS),
        (Shown("all", 17, True), BASIC | OWN | PUBLIC | PRIVATE | POINTS),
    ],
)
def test_a_submitter_reads_what_is_on_the_list_and_nothing_else_of_a_report(shown: Shown, expected: set[str]) -> None:
    report, places = filled(FULL)
    assert leaves(feedback(report, shown), places) == expected


def changed(**changes: Any) -> Report:
    return msgspec.structs.replace(FULL, **changes)


def with_numbers(private: float) -> Report:
    assert FULL.evaluation is not None
    assert FULL.grade is not None
    metrics = (
        Metric(id="a", split="public", value=0.123456, n=10, ci95=(0.111111, 0.222222)),
        Metric(id="a", split="private", value=private, n=10),
        Metric(id="parameters", split="all", value=123456, n=0),
    )
    judged = [
        msgspec.structs.replace(criterion("a", "public"), value=0.123456, points=12.3456, wanted="at least 0.1"),
        msgspec.structs.replace(
            criterion("a", "private"), value=private, points=private * 100, message=f"a {private}", wanted="at least 0.1"
        ),
        msgspec.structs.replace(criterion("parameters", "all"), value=123456, wanted="at most 1"),
    ]
    return changed(
        evaluation=msgspec.structs.replace(FULL.evaluation, metrics=metrics),
        grade=msgspec.structs.replace(FULL.grade, criteria=tuple(judged)),
    )


def test_numbers_on_the_data_have_the_digits_asked_for_and_those_of_the_model_all() -> None:
    seen = feedback(with_numbers(0.654321), Shown("all", 2, True))
    assert [(m.value, m.ci95) for m in seen.metrics] == [(0.12, (0.11, 0.22)), (0.65, None), (123456, None)]
    assert seen.grade is not None
    assert [c.value for c in seen.grade.criteria] == [0.12, 0.65, 123456]
    assert [c.message for c in seen.grade.criteria] == ["a 0.12: at least 0.1", "a 0.65: at least 0.1", "parameters 123,456: at most 1"]
    assert [c.points for c in seen.grade.criteria] == [12, 65, 0]
    assert FULL.grade is not None
    late = Lateness(hours=1.0, share=0.2, points=12.3456)
    precise = msgspec.structs.replace(FULL.grade, points=77.6543, share=0.776543, late=late)
    seen = feedback(changed(grade=precise), Shown("all", 2, True))
    assert seen.grade is not None
    assert seen.late is not None
    assert (seen.grade.points, seen.grade.share, seen.late.points) == (78, 0.78, 12)


def test_a_private_number_is_kept_back_though_its_points_are_shown() -> None:
    seen = feedback(with_numbers(0.654321), Shown("public", 4, True))
    assert seen.grade is not None
    assert [(c.value, c.message) for c in seen.grade.criteria][1] == (None, "at least 0.1")
    assert "0.654" not in msgspec.json.encode(seen).decode() + tables.student(seen)


def test_what_goes_wrong_on_our_side_is_told_without_details() -> None:
    reason = Reason(code="internal-error", message="OSError: /home/prof/secret", blame="operator")
    seen = feedback(changed(state=State.FAILED, reason=reason), Shown("all", 4, True))
    assert seen.reason.code == "internal-error"
    assert "not your fault" in seen.reason.message
    assert "prof" not in msgspec.json.encode(seen).decode()


def test_code_of_a_submitter_that_was_run_cannot_put_the_data_into_a_message() -> None:
    told = msgspec.structs.replace(finding("FM603"), message="the forward pass raised ValueError: 3, 1, 4, 1, 5")
    reason = Reason(code="wrong-model", message=told.message, blame="submitter")
    for form, shown in (("torchscript", False), ("state_dict", True)):
        seen = feedback(changed(form=form, reason=reason, findings=(told,), state=State.REJECTED), Shown("all", 4, True))
        assert ("3, 1, 4" in msgspec.json.encode(seen).decode()) is shown
    assert seen.findings[0].code == "FM603"


def test_whose_weights_these_are_is_not_told_to_the_one_who_handed_them_in() -> None:
    same = Finding(code="FM701", level=Level.WARNING, where="weights", message="they are another's", evidence="of zebedee", advice="x")
    seen = feedback(changed(findings=(same,)), Shown("all", 17, True))
    assert seen.findings[0].message == "they are another's"
    assert "zebedee" not in msgspec.json.encode(seen).decode() + tables.student(seen)


def test_attempts_lateness_and_pseudonym_are_told() -> None:
    seen = feedback(
        with_numbers(0.5), Shown("public", 4, True), AttemptsUsed(used=3, max_total=10, used_that_day=2, max_per_day=2), "anon-abc"
    )
    text = tables.student(seen)
    assert "3 of 10 attempts are used" in text
    assert "2 of 2 attempts of that day are used" in text
    assert "anon-abc" in text
    assert "hours late" in text


def test_what_lateness_took_is_one_sentence_with_points_and_without() -> None:
    late = Lateness(hours=30.5, share=0.2, points=12.0)
    made = with_numbers(0.5)
    assert made.grade is not None
    told = replace(made, grade=replace(made.grade, late=late))
    assert (
        "  30.5 hours late: 20% of the points (12) are taken off" in tables.student(feedback(told, Shown("public", 4, True))).splitlines()
    )
    hidden = tables.student(feedback(told, Shown("public", 4, False)))
    assert "  30.5 hours late: 20% of the points are taken off" in hidden.splitlines()


def test_an_operator_reads_every_split_and_audit() -> None:
    text = tables.report(with_numbers(0.654321))
    assert "a (public) = 0.1235" in text
    assert "a (private) = 0.6543" in text
    assert "passed:" in text
