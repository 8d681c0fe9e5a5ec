"""One submission's report, put together from what the parts found."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Sequence

import fifomark
from fifomark.core.clock import utc
from fifomark.core.findings import Finding, Level, verdict_of
from fifomark.core.inspection import Inspection
from fifomark.core.outcome import Evaluation, Reason
from fifomark.core.report import SCHEMA, Environment, Grade, ModelFacts, Report, Step, SubmissionFacts
from fifomark.core.states import State
from fifomark.core.submission import Submission
from fifomark.core.text import shown

MARKED = Reason(code="marked", message="marked", blame=None)


def refusal(findings: Sequence[Finding]) -> Reason:
    """Why findings refuse a submission: the worst of them, and how many more there are."""
    worst = max(findings, key=lambda finding: (finding.level.rank, finding.code != "FM101"))  # a name is the least of what may be wrong
    more = sum(f.level in (Level.INVALID, Level.UNSAFE) for f in findings) - 1
    code = "unsafe" if worst.level is Level.UNSAFE else "wrong-model" if worst.code[:3] in ("FM5", "FM6") else "invalid"
    return Reason(code=code, message=worst.message + (f" (and {more} more)" if more > 0 else ""), blame="submitter")


def compose(
    submission: Submission,
    state: State,
    reason: Reason,
    *,
    timeline: Iterable[tuple[State, float]],
    now: float,
    inspection: Inspection | None = None,
    findings: Sequence[Finding] = (),
    evaluation: Evaluation | None = None,
    grade: Grade | None = None,
) -> Report:
    """The report of `submission` that ends in `state` at `now`; `findings` are the marking's, added to the inspection's."""
    found = tuple(findings) + (inspection.findings if inspection else ()) + (evaluation.findings if evaluation else ())
    ordered = tuple(sorted(found, key=lambda f: (-f.level.rank, f.code)))
    return Report(
        schema=SCHEMA,
        id=submission.id,
        state=state,
        verdict=verdict_of(ordered) if inspection or ordered else None,
        reason=reason,
        submission=_facts(submission, inspection),
        clean=inspection.clean if inspection and state in (State.DONE, State.FAILED) else None,
        container=inspection.container if inspection else None,
        form=inspection.form if inspection else None,
        would_run=inspection.would_run if inspection else (),
        findings=ordered,
        model=_model(inspection, evaluation),
        evaluation=evaluation,
        grade=grade,
        timeline=tuple(Step(state=s, at=utc(at)) for s, at in (*timeline, (state, now))),
        environment=Environment(
            fifomark=fifomark.__version__,
            python=platform.python_version(),
            platform=f"{platform.system()} {platform.machine()}",
            torch=evaluation.torch_version if evaluation else None,
            slot=submission.slot,
        ),
    )


def _facts(submission: Submission, inspection: Inspection | None) -> SubmissionFacts:
    return SubmissionFacts(
        name=shown(submission.name, 1100),
        owner=shown(submission.owner),
        rubric=submission.rubric,
        attempt=submission.attempt,
        received_at=utc(submission.received_at),
        mtime=utc(submission.identity.mtime_ns / 1e9),
        size=inspection.size if inspection else submission.identity.size,
        sha256=inspection.sha256 if inspection else None,
    )


def _model(inspection: Inspection | None, evaluation: Evaluation | None) -> ModelFacts | None:
    if inspection is None or inspection.weights is None:
        return None
    family = inspection.family
    return ModelFacts(
        family=family.name if family else "unknown",
        evidence=family.evidence if family else (),
        alternatives=family.alternatives if family else (),
        declared=evaluation.declared if evaluation else {},
        assumed=evaluation.assumed if evaluation else (),
        parameters=inspection.weights.parameters,
        dtypes=inspection.weights.dtypes,
        layers=inspection.weights.tensors,
    )
