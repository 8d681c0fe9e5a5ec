"""One file marked without a spool: the same sanitizer, the same worker and the same report, one after the other."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import wait
from pathlib import Path
from types import TracebackType
from typing import Any

from msgspec.structs import replace

from fifomark.core.errors import ConfigError, InternalError, PluginFailed, UsageError
from fifomark.core.inspection import Inspection
from fifomark.core.outcome import Evaluation, Failed, Lost, Marked, MarkTicket, Outcome, Reason, Refused
from fifomark.core.overruns import lost
from fifomark.core.policy import Limits, Policy
from fifomark.core.report import Grade, Report
from fifomark.core.states import State
from fifomark.core.submission import Identity, Submission
from fifomark.core.text import shown
from fifomark.daemon.dispatch import bounds
from fifomark.daemon.tickets import original
from fifomark.families import registry
from fifomark.marking.grade import grade
from fifomark.marking.rubric import FILE_NAME, load_rubric, rubric_sha256
from fifomark.reports.compose import MARKED, compose, refusal
from fifomark.sanitizer.sanitizer import Sanitizer
from fifomark.workers.local import LocalPool
from fifomark.workers.machine import cores
from fifomark.workers.main import MARKING, serve_marking
from fifomark.workers.slots import Slot, find_slots

AnyPath = str | os.PathLike[str]
_LOOK_SECONDS = 0.5  # how often an overdue worker is looked for


class Marker:
    """Marks files against one rubric, on one slot; for one thread, from entering the context to leaving it.

    `rubric` is its folder, or its file. `slot` is one as in the settings ("cpu:2", "cuda:0"); the first that is found, where nothing is
    said. ConfigError where the rubric is wrong.
    """

    def __init__(self, rubric: AnyPath, limits: Limits | None = None, policy: Policy | None = None, slot: str | None = None) -> None:
        self._folder = str(rubric_folder(rubric))
        self.rubric, self._sha256 = load_rubric(self._folder), rubric_sha256(self._folder)
        self._limits = limits or Limits()
        self._policy = replace(policy or Policy(), torchscript=self.rubric.model.torchscript)
        self._slot, self._named = _slot(slot), slot is not None
        self._pool = LocalPool(serve_marking, [self._slot], preload=MARKING)
        self._sanitizer = Sanitizer(self._limits, self._policy)

    def __enter__(self) -> Marker:
        self._pool.expect()
        self._sanitizer.launch()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._sanitizer.close()
        self._pool.close()

    def mark(self, path: AnyPath) -> Report:
        """The report on the file at `path`, as a spool would write it. ConfigError where marking shows that the rubric is wrong."""
        submission, started = self._submission(path), time.time()
        timeline = [(State.SANITIZING, started)]
        with tempfile.TemporaryDirectory(prefix="fifomark-") as folder:
            clean = os.path.join(folder, "clean.pt")
            inspection = self._recognised(self._sanitizer.inspect(path, clean_to=clean))
            if inspection.verdict.refuses:
                return self._report(submission, State.REJECTED, refusal(inspection.findings), timeline, inspection=inspection)
            timeline.append((State.EVALUATING, time.time()))
            limit = bounds(self.rubric, self._limits, self._slot)
            outcome = self._outcome(
                MarkTicket(
                    submission=0,
                    path=clean,
                    rubric=self._folder,
                    rubric_sha256=self._sha256,
                    form=inspection.form,
                    layers=inspection.layers if self.rubric.model.trees else (),
                    original=original(self.rubric, inspection.form, inspection.sha256, os.path.realpath(path), limit),
                )
            )
        state, reason, parts = self._ending(outcome)
        return self._report(submission, state, reason, timeline, inspection=inspection, **parts)

    def _recognised(self, seen: Inspection) -> Inspection:
        """With the family that the rubric's plugins know. Of one that breaks its marking tells."""
        if seen.weights is None or set(self.rubric.model.families) <= set(registry.FAMILIES):
            return seen
        with suppress(PluginFailed):
            return replace(seen, family=registry.recognise(seen.weights.tensors, registry.with_plugins(self.rubric.model.families)))
        return seen

    def _submission(self, path: AnyPath) -> Submission:
        seen, name = os.stat(path), os.path.basename(os.fspath(path))
        return Submission(
            id=0,
            folder="",
            name=name,
            kind="file",
            rubric=self.rubric.about.id,
            owner=shown(self.rubric.owner_of(name)),
            state=State.QUEUED,
            moving=False,
            attempt=1,
            tries=1,
            order_ns=seen.st_mtime_ns,
            identity=Identity(device=seen.st_dev, inode=seen.st_ino, size=seen.st_size, mtime_ns=seen.st_mtime_ns),
            received_at=time.time(),
            slot=self._slot.name,
        )

    def baseline(self) -> tuple[Evaluation, Grade]:
        """The mark of what knows nothing of its input. ConfigError as of `mark`; InternalError where it cannot be marked."""
        outcome = self._outcome(MarkTicket(submission=0, path="", rubric=self._folder, rubric_sha256=self._sha256, baseline=True))
        if not isinstance(outcome, Marked):
            _, reason, _ = self._ending(outcome)
            raise InternalError(f"the baseline cannot be marked: {reason.message}")
        return outcome.evaluation, grade(outcome.evaluation, self.rubric)

    def _outcome(self, ticket: MarkTicket) -> Outcome:
        self._pool.start([ticket], self._slot, bounds(self.rubric, self._limits, self._slot), time.time())
        while not (ended := self._pool.collect(time.time())):
            wait(self._pool.waitables(), timeout=_LOOK_SECONDS)
        if why := next((state.why for state in self._pool.slots() if state.why), None):
            if self._named:
                raise ConfigError("--slot", "", f"{self._slot.name!r} cannot be used: {why}", f"there are: {_others(self._slot)}")
            raise InternalError(f"no slot to mark on: {why} (what it said stands on stderr)")
        return ended[0].outcome

    def _ending(self, outcome: Outcome) -> tuple[State, Reason, dict[str, Any]]:
        match outcome:
            case Marked(evaluation=evaluation):
                return State.DONE, MARKED, {"evaluation": evaluation, "grade": grade(evaluation, self.rubric)}
            case Refused(findings=findings):
                return State.REJECTED, refusal(findings), {"findings": findings}
            case Failed(reason=Reason(code="rubric-error" | "rubric-changed") as reason):
                raise UsageError(reason.message)
            case Failed(reason=reason, findings=findings):
                return State.FAILED, reason, {"findings": findings}
            case Lost():
                return self._ending(lost(outcome, marking=True))
        raise InternalError(f"a marking worker said {type(outcome).__name__}")

    def _report(
        self,
        submission: Submission,
        state: State,
        reason: Reason,
        timeline: Sequence[tuple[State, float]],
        inspection: Inspection,
        **parts: Any,
    ) -> Report:
        return compose(submission, state, reason, timeline=timeline, now=time.time(), inspection=inspection, **parts)


def rubric_folder(rubric: AnyPath) -> Path:
    """The folder of a rubric that is named by it or by its file; ConfigError where there is none."""
    path = Path(rubric)
    folder = path.parent if path.name == FILE_NAME else path
    if not (folder / FILE_NAME).is_file():
        raise ConfigError(path, "", "is no rubric", f"name a folder that holds a {FILE_NAME}, or that file")
    return folder


def _slot(wanted: str | None) -> Slot:
    if wanted is None:
        return find_slots("auto")[0]
    return find_slots((wanted,), file="--slot")[0]


def _others(slot: Slot) -> str:
    """The slots that could be named in the place of one that cannot be used."""
    found = [other.name for other in find_slots("auto") if other.device == "cuda" and other.visible != slot.visible]
    return ", ".join(map(repr, [*found, "cpu", f"cpu:{len(cores())}"]))
