"""The sanitizer: from a path to an inspection and, where the verdict lets it through, a clean file. Loads nothing, runs nothing."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import NamedTuple

from fifomark.core.catalogue import RULES, find
from fifomark.core.findings import Finding, Level, verdict_of
from fifomark.core.inspection import CleanFile, Form, Inspection
from fifomark.core.policy import Limits, Policy
from fifomark.core.text import shown
from fifomark.core.weights import FamilySeen, TensorSpec, WeightsSummary
from fifomark.sandbox.enter import Strictness
from fifomark.sanitizer import code_rules
from fifomark.sanitizer.checks import Checked, check
from fifomark.sanitizer.client import ParserClient
from fifomark.sanitizer.extraction import extract, read_through
from fifomark.sanitizer.forms import choose
from fifomark.sanitizer.opening import Submission, open_submission
from fifomark.sanitizer.publishing import Publication
from fifomark.torchfile.description import Description
from fifomark.torchfile.views import BrokenStorage

_MAX_PATH = 4096


class _Judgement(NamedTuple):
    """What a description comes to, before the weights are read."""

    findings: list[Finding]
    checked: Checked
    form: Form | None
    would_run: tuple[str, ...]


class _Taken(NamedTuple):
    """What reading the bytes came to; None for what could not be had."""

    findings: list[Finding]
    sha256: str | None = None
    weights: WeightsSummary | None = None
    clean: CleanFile | None = None


class Sanitizer:
    """Owns one parser server, from entering the context to leaving it. For one thread; several sanitizers may exist at once."""

    def __init__(
        self,
        limits: Limits = Limits(),  # noqa: B008 (frozen records)
        policy: Policy = Policy(),  # noqa: B008
        sandbox: Strictness = "auto",
    ) -> None:
        self._limits, self._policy = limits, policy
        self._parser = ParserClient(sandbox=sandbox)

    def inspect(
        self,
        path: str | bytes | os.PathLike[str] | os.PathLike[bytes],
        *,
        name: str | None = None,
        clean_to: str | None = None,
        policy: Policy | None = None,
        limits: Limits | None = None,
    ) -> Inspection:
        """What the file at `path` is. `name` is the one it was dropped under, by which its extension is judged (default: the path's).

        With `clean_to`, a file that is not refused is written there as a clean file, in place of what bears that name.
        Whatever is wrong with the file is a finding. InternalError where the parser cannot be started, OSError where the clean file cannot
        be written.
        """
        limits, policy, path = limits or self._limits, policy or self._policy, os.fsdecode(path)
        findings = _extension(path if name is None else name, policy)
        opened = open_submission(path)
        if isinstance(opened, Finding):
            return _inspection(path, [*findings, opened])
        with opened as file:
            if file.size > limits.file_bytes:
                large = find("FM110", "the file", f"the file has {file.size:,} bytes; at most {limits.file_bytes:,} are read")
                return _inspection(path, [*findings, large], size=file.size)
            return self._inspected(path, file, findings, clean_to, policy, limits)

    def _inspected(
        self, path: str, file: Submission, findings: list[Finding], clean_to: str | None, policy: Policy, limits: Limits
    ) -> Inspection:
        seen = self._parser.describe(file.fd, limits)
        if isinstance(seen, Finding):
            taken = _read_only(file, [*findings, seen])
            return _inspection(path, taken.findings, size=file.size, sha256=taken.sha256)
        judged = _judged(seen, file.size, policy, limits)
        taken = _taken(file, seen, judged.checked, [*findings, *judged.findings], clean_to)
        return _inspection(
            path,
            taken.findings,
            container=seen.container,
            form=judged.form,
            family=_family(judged.checked),
            weights=taken.weights,
            would_run=judged.would_run,
            size=file.size,
            sha256=taken.sha256,
            clean=taken.clean,
        )

    def close(self) -> None:
        """End the parser server."""
        self._parser.close()

    def __enter__(self) -> Sanitizer:
        self._parser.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def _extension(name: str, policy: Policy) -> list[Finding]:
    if name.endswith(policy.extensions):
        return []
    return [find("FM101", "the file", f"the name does not end in {' or '.join(policy.extensions)}", evidence=os.path.basename(name))]


def _judged(seen: Description, size: int, policy: Policy, limits: Limits) -> _Judgement:
    structure = _structure(seen)
    code = code_rules.judge(seen, policy)
    chosen = choose(seen)
    broken = any(f.level.rank >= Level.INVALID.rank for f in structure)
    if not chosen.entries and broken:
        return _Judgement([*structure, *code.findings], Checked([], []), None, code.would_run)  # what is missing is their fault
    checked = check(seen, chosen.entries, size, limits)
    disarm = policy.on_unsafe == "disarm" and checked.views
    code_findings = code_rules.disarmed(code.findings) if disarm else code.findings
    return _Judgement([*structure, *code_findings, *chosen.findings, *checked.findings], checked, chosen.form, code.would_run)


def _structure(seen: Description) -> list[Finding]:
    """The parser's own findings. It is not trusted to know the catalogue."""
    known = [find(p.code, p.where, p.message, evidence=p.evidence) for p in seen.problems if p.code in RULES]
    if len(known) < len(seen.problems):
        known.append(find("FM208", "the file", "the parser's description of the file cannot be understood"))
    if seen.container is None and (seen.foreign or not known):
        known.append(find("FM106", "the file", f"this is {seen.foreign or 'nothing that torch.save writes'}", evidence=seen.foreign))
    return known


def _taken(file: Submission, seen: Description, checked: Checked, findings: list[Finding], clean_to: str | None) -> _Taken:
    """Read the weights and, where nothing found refuses the file, publish the clean file."""
    if not checked.views:
        return _read_only(file, findings)
    with ExitStack() as stack:
        refused = verdict_of(findings).refuses
        out = stack.enter_context(Publication(clean_to)) if clean_to is not None and not refused else None
        try:
            sha256, wrong = read_through(file.fd, file.size, seen.storages)
            weights, broken = extract(file.fd, seen.storages, checked.views, out.fd if out is not None else None)
        except BrokenStorage as e:
            return _Taken([*findings, find(e.code, "the file", str(e))])
        crc = [find("FM111", f"storage {storage.key}", "its checksum does not match its bytes") for storage in wrong[:20]]
        findings = [*findings, *broken, *crc, *_unchanged(file)]
        clean = None
        if out is not None and not verdict_of(findings).refuses:
            clean = _published(out, weights)
        return _Taken(findings, sha256, weights, clean)


def _published(out: Publication, weights: WeightsSummary) -> CleanFile:
    size = os.fstat(out.fd).st_size
    sha256, _ = read_through(out.fd, size)
    out.publish()
    assert weights.sha256 is not None
    return CleanFile(size=size, sha256=sha256, weights_sha256=weights.sha256)


def _read_only(file: Submission, findings: Sequence[Finding]) -> _Taken:
    """Where there are no weights to read: the hash of the file."""
    try:
        sha256, _ = read_through(file.fd, file.size)
    except BrokenStorage as e:
        return _Taken([*findings, find(e.code, "the file", str(e))])
    return _Taken([*findings, *_unchanged(file)], sha256)


def _unchanged(file: Submission) -> list[Finding]:
    return [find("FM113", "the file", "the file changed while it was read")] if file.changed() else []


def _family(checked: Checked) -> FamilySeen | None:
    if not checked.views:
        return None
    from fifomark.families.registry import recognise

    return recognise([TensorSpec(name=name, dtype=view.dtype.name, shape=view.shape) for name, view in checked.views])


def _inspection(
    path: str,
    findings: Sequence[Finding],
    *,
    container: str | None = None,
    form: Form | None = None,
    family: FamilySeen | None = None,
    weights: WeightsSummary | None = None,
    would_run: tuple[str, ...] = (),
    size: int | None = None,
    sha256: str | None = None,
    clean: CleanFile | None = None,
) -> Inspection:
    ordered = tuple(sorted(findings, key=lambda finding: (-finding.level.rank, finding.code)))
    return Inspection(
        path=shown(path, _MAX_PATH),
        verdict=verdict_of(ordered),
        container=container,
        form=form,
        family=family,
        findings=ordered,
        weights=weights,
        would_run=would_run,
        size=size,
        sha256=sha256,
        clean=clean,
    )
