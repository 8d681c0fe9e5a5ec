"""Files on their way to a mark, as the daemon sends them: sanitized, and what their inspection says carried along."""

from __future__ import annotations

import atexit
from functools import cache
from pathlib import Path
from typing import Any

import torch
from msgspec.structs import replace
from torch import nn

from fifomark.core.inspection import Inspection
from fifomark.core.outcome import Evaluation, Failed, Marked, MarkTicket, Original, Outcome, Refused
from fifomark.core.policy import Limits, Policy
from fifomark.marking import scripts
from fifomark.marking.evaluation import Bench, evaluate
from fifomark.marking.model import Material
from fifomark.marking.rubric import rubric_sha256
from fifomark.sanitizer.sanitizer import Sanitizer


@cache
def sanitizer() -> Sanitizer:
    """One for all tests: to start it costs more than a file."""
    made = Sanitizer(Limits(), Policy())
    atexit.register(made.close)
    return made


def sanitized(saved: object, folder: Path) -> tuple[dict[str, torch.Tensor], Inspection]:
    """The clean weights of whatever torch.save makes of `saved`, and its inspection."""
    torch.save(saved, folder / "submitted.pt")
    seen = sanitizer().inspect(folder / "submitted.pt", clean_to=folder / "sanitized.pt")
    assert seen.clean is not None, seen.findings
    return torch.load(folder / "sanitized.pt", weights_only=True), seen


def material(saved: object, folder: Path) -> Material:
    weights, seen = sanitized(saved, folder)
    return Material(weights, seen.form, seen.layers)


def outcome_of(saved: nn.Module | dict[str, torch.Tensor], rubric: Path, bench: Bench | None = None, **told: Any) -> Outcome:
    """How marking ends for clean weights, or for those of a module."""
    torch.save(saved.state_dict() if isinstance(saved, nn.Module) else saved, rubric / "clean.pt")
    ticket = MarkTicket(submission=1, path=str(rubric / "clean.pt"), rubric=str(rubric), rubric_sha256=rubric_sha256(rubric), **told)
    return evaluate(ticket, bench or Bench())


def whole(saved: object, rubric: Path, bench: Bench | None = None) -> Outcome:
    """How marking ends for what torch.save makes of `saved`."""
    weights, seen = sanitized(saved, rubric)
    return outcome_of(weights, rubric, bench, form=seen.form, layers=seen.layers)


def ran(script: bytes, rubric: Path, bench: Bench | None = None, **changes: Any) -> Outcome:
    """How marking ends for a TorchScript archive that the rubric lets run; `changes` are to its ticket's Original."""
    submitted = rubric / "script.pt"
    submitted.write_bytes(script)
    seen = sanitizer().inspect(submitted, clean_to=str(rubric / "clean.pt"), policy=Policy(torchscript=True))
    assert seen.clean is not None, seen.findings
    ticket = MarkTicket(
        submission=1,
        path=str(rubric / "clean.pt"),
        rubric=str(rubric),
        rubric_sha256=rubric_sha256(rubric),
        form=seen.form,
        original=replace(Original(path=str(submitted), sha256=seen.sha256), **changes),
    )
    return evaluate(ticket, bench or Bench())


def pid_of(process: scripts._Process) -> str:
    """That of the process that runs a script."""
    told = Path(f"/proc/self/fdinfo/{process._process._pidfd}").read_text()
    return next(line.split()[1] for line in told.splitlines() if line.startswith("Pid:"))


def evaluated(outcome: Outcome) -> Evaluation:
    assert isinstance(outcome, Marked), outcome
    return outcome.evaluation


def refused(outcome: Outcome) -> list[tuple[str, str]]:
    """(code, message) of each finding."""
    assert isinstance(outcome, Refused), outcome
    return [(finding.code, finding.message) for finding in outcome.findings]


def failed(outcome: Outcome) -> tuple[str, str]:
    """(code, message) of a failure that is the operator's."""
    assert isinstance(outcome, Failed), outcome
    assert outcome.reason.blame == "operator"
    return outcome.reason.code, outcome.reason.message
