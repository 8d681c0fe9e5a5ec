"""Checks of how a model behaves, beside its mark. One forward pass that is needed anyway says that all is well; where it does not, each
audit is run on its own, to say what is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from fifomark.core.catalogue import find
from fifomark.core.findings import Finding, Level
from fifomark.core.outcome import Audit
from fifomark.marking.running import Inputs, Misbehaved, Runner
from fifomark.marking.schema import Audits, Consequence

PROBED = 8  # examples that are run at first
EXAMPLES = 64  # that an audit looks at, at most
_CONSTANT = 1e-6  # outputs that differ by less than this share of their size are the same


class Audited(NamedTuple):
    """`findings` are those of audits that were not passed; invalid ones refuse the model."""

    audits: tuple[Audit, ...]
    findings: tuple[Finding, ...]


class _Kind(NamedTuple):
    id: str
    code: str
    passed: str
    failed: str


_REPEAT = _Kind("repeat", "FM607", "the same inputs give the same outputs", "the same inputs do not give the same outputs")
_BATCH = _Kind(
    "batch_size", "FM608", "an example's outputs do not depend on the batch", "an example's outputs depend on the batch it is in"
)
_UNTOLD = "cannot be told: the same inputs do not give the same outputs"
_ORDER = _Kind("order", "FM609", "nor on the order of the examples", "the outputs depend on the order of the examples")


class Probe:
    """A few of the first examples, run backwards before the marking: does the model run at all, gives it later, forwards and in batches of
    another size, what it gave then, and the same once more when it has seen everything?"""

    def __init__(self, runner: Runner, inputs: Inputs, labels: Tensor, batch: int) -> None:
        """`batch` is the size that marking will use. Misbehaved or OutOfMemory as of Runner.outputs."""
        self._runner, self._inputs, self._labels = runner, inputs, labels
        count = min(PROBED if batch > PROBED else max(1, batch // 2), len(labels))
        self._backwards = torch.arange(count - 1, -1, -1)
        self.outputs = self._look()

    def _look(self) -> Tensor:
        count = len(self._backwards)
        shape = tuple(self._labels[:count].shape)
        return self._runner.outputs([tensor[:count][self._backwards] for tensor in self._inputs], shape)[self._backwards]

    def audit(self, rules: Audits, marked: Tensor, batch: int) -> Audited:
        """`marked` are the outputs of the first examples as they were marked, in batches of `batch`."""
        kinds = [(kind, getattr(rules, kind.id)) for kind in (_REPEAT, _BATCH, _ORDER)]
        asked = [(kind, what) for kind, what in kinds if what != "off"]
        if not asked:
            return Audited((), ())
        later = _apart(self.outputs, self._look())
        if max(later, _apart(self.outputs, marked[: len(self.outputs)])) <= rules.tolerance:
            return Audited(tuple(Audit(id=kind.id, passed=True, message=kind.passed) for kind, _ in asked), ())
        changed = f"they differ by up to {later:.3g} of their size once all examples were seen" if later > rules.tolerance else None
        return self._each(asked, rules.tolerance, min(EXAMPLES, len(marked)), batch, changed)

    def _each(self, asked: list[tuple[_Kind, Consequence]], tolerance: float, count: int, batch: int, changed: str | None) -> Audited:
        """`changed`: how its outputs have, since they were first looked at."""
        audits: list[Audit] = []
        findings: list[Finding] = []
        ways: dict[str, Callable[[], Tensor]] = {
            "repeat": lambda: self._run(torch.arange(count), batch),
            "batch_size": lambda: self._run(torch.arange(count), 1),
            "order": lambda: self._run(torch.arange(count - 1, -1, -1), batch).flip(0),
        }
        first = self._run(torch.arange(count), batch)
        for kind, consequence in asked:
            untold = any(finding.code == _REPEAT.code for finding in findings)
            evidence = _UNTOLD if untold else self._differing(first, ways[kind.id], tolerance) or (changed if kind is _REPEAT else None)
            audits.append(
                Audit(id=kind.id, passed=evidence is None, message=_UNTOLD if untold else kind.failed if evidence else kind.passed)
            )
            if evidence and (consequence == "fail" or not untold):  # one flag is enough for one fault
                level = Level.INVALID if consequence == "fail" else None
                findings.append(find(kind.code, "outputs", kind.failed, evidence=evidence, level=level))
        return Audited(tuple(audits), tuple(findings))

    def _differing(self, first: Tensor, way: Callable[[], Tensor], tolerance: float) -> str | None:
        """How other outputs are than the `first`; None where they are the same."""
        try:
            again = way()
        except Misbehaved as e:  # it ran while it was marked
            if e.finding.code != "FM603":
                raise
            return e.finding.message
        off = _apart(first, again)
        if off <= tolerance:
            return None
        changed = f"; {said}" if (said := _changed(first, again)) else ""
        return f"they differ by up to {off:.3g} of their size over {len(first)} examples{changed}"

    def _run(self, order: Tensor, batch: int) -> Tensor:
        inputs = [tensor[: len(order)][order] for tensor in self._inputs]
        labels = self._labels[: len(order)][order]
        return torch.cat([outputs for outputs, _ in self._runner.batches(inputs, labels, batch)])


def constant(outputs: Tensor, consequence: Consequence) -> Iterator[Finding]:
    """A finding where a model gives the same outputs (n, …) for all of more than one examples."""
    spread = float((outputs.amax(dim=0) - outputs.amin(dim=0)).max())
    if consequence != "off" and len(outputs) > 1 and spread <= _CONSTANT * float(outputs.abs().max()):
        level = Level.INVALID if consequence == "fail" else None
        yield find("FM606", "outputs", f"the outputs for all {len(outputs)} examples are the same", level=level)


def _apart(one: Tensor, other: Tensor) -> float:
    """The largest difference, as a share of the largest output."""
    size = float(torch.maximum(one.abs().max(), other.abs().max()))
    return float((one - other).abs().max()) / size if size else 0.0


def _changed(one: Tensor, other: Tensor) -> str:
    """How many predictions are others, where outputs are scores of classes."""
    if one.shape[-1] == 1:
        return ""
    changed = int((one.argmax(-1) != other.argmax(-1)).sum())
    return f"{changed} of {one[..., 0].numel()} predictions change"
