"""What a description comes to, before a byte of the weights is read."""

from __future__ import annotations

from typing import NamedTuple

from fifomark.core.catalogue import RULES, find
from fifomark.core.findings import Finding, Level
from fifomark.core.inspection import Form
from fifomark.core.layers import Layer
from fifomark.core.policy import Limits, Policy
from fifomark.core.weights import FamilySeen, TensorSpec
from fifomark.families.registry import recognise
from fifomark.sanitizer import code_rules, trees
from fifomark.sanitizer.checks import Checked, check
from fifomark.sanitizer.forms import choose
from fifomark.torchfile.description import Description


class Judgement(NamedTuple):
    """`checked.views` are the weights, safe to read; empty where there are none, or a finding forbids it."""

    findings: list[Finding]
    checked: Checked
    form: Form | None
    would_run: tuple[str, ...]
    layers: tuple[Layer, ...] = ()

    @property
    def family(self) -> FamilySeen | None:
        if not self.checked.views:
            return None
        return recognise([TensorSpec(name=name, dtype=view.dtype.name, shape=view.shape) for name, view in self.checked.views])


def judge(seen: Description, size: int, policy: Policy, limits: Limits) -> Judgement:
    """The description of a file of `size` bytes, judged: its structure, its code, which weights it holds, and where they lie."""
    structure = _structure(seen, policy)
    code = code_rules.judge(seen, policy)
    chosen = choose(seen)
    broken = any(f.level.rank >= Level.INVALID.rank for f in structure)
    if not chosen.entries and broken:
        return Judgement([*structure, *code.findings], Checked([], []), None, code.would_run)  # what is missing is their fault
    checked = check(seen, chosen.entries, size, limits)
    disarm = policy.on_unsafe == "disarm" and checked.views
    code_findings = code_rules.disarmed(code.findings) if disarm else code.findings
    findings = [*structure, *code_findings, *chosen.findings, *checked.findings]
    return Judgement(findings, checked, chosen.form, code.would_run, trees.tree(seen, chosen))


def _structure(seen: Description, policy: Policy) -> list[Finding]:
    """The parser's own findings. It is not trusted to know the catalogue."""
    # What a script runs while it is loaded is code like the rest of it, where that may run.
    level = Level.WARNING if policy.torchscript and seen.container == "torchscript" else None
    known = [
        find(p.code, p.where, p.message, evidence=p.evidence, level=level if p.code == "FM201" else None)
        for p in seen.problems
        if p.code in RULES
    ]
    if len(known) < len(seen.problems):
        known.append(find("FM208", "the file", "the parser's description of the file cannot be understood"))
    if seen.container is None and (seen.foreign or not known):
        known.append(find("FM106", "the file", f"this is {seen.foreign or 'nothing that torch.save writes'}", evidence=seen.foreign))
    return known
