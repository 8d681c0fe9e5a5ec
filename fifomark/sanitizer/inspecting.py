"""One open file, its description and perhaps a place for its clean file: from these to an inspection."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

from fifomark.core.catalogue import find
from fifomark.core.findings import Finding, verdict_of
from fifomark.core.inspection import Inspection, conclude
from fifomark.core.policy import Limits, Policy
from fifomark.sanitizer.extraction import Extraction, Format, Views, extract
from fifomark.sanitizer.judgement import judge
from fifomark.sanitizer.messages import CleanFormat
from fifomark.sanitizer.opening import Version, version_of
from fifomark.torchfile import safetensors
from fifomark.torchfile.description import Description, Storage
from fifomark.torchfile.views import BrokenStorage
from fifomark.torchfile.writer import CleanPt

MAX_UNUSED = 1 << 30  # bytes of a file without weights, beyond which its hash is not worth making others wait (sparse files cost nothing)
_FORMATS: dict[CleanFormat, Format] = {"pt": CleanPt, "safetensors": safetensors.CleanSafetensors}


class OpenFile(NamedTuple):
    """`path` is what its inspection calls it; `version` and `findings` are from when it was opened."""

    fd: int
    path: str
    version: Version
    findings: tuple[Finding, ...] = ()


class Target(NamedTuple):
    """An empty file, open for reading and writing, and what to write to it."""

    fd: int
    format: CleanFormat = "pt"


def inspect(file: OpenFile, seen: Description | Finding, policy: Policy, limits: Limits, target: Target | None = None) -> Inspection:
    """`seen` is what the parser says of the file. One that is not refused is written to `target` as a clean file; making that last is left
    to whoever gives it its name.

    OSError where that cannot be done.
    """
    size = file.version.size
    if isinstance(seen, Finding):
        taken = _extracted(file, (), (), None)
        return conclude(file.path, [*file.findings, seen, *taken.findings], size=size, sha256=taken.sha256)
    judged = judge(seen, size, policy, limits)
    views = judged.checked.views
    findings = [*file.findings, *judged.findings, *_unwritable(views, target)]
    refused = verdict_of(findings).refuses
    taken = _extracted(file, seen.storages if views else (), views, None if refused or not views else target)
    findings += taken.findings
    return conclude(
        file.path,
        findings,
        size=size,
        sha256=taken.sha256,
        container=seen.container,
        form=judged.form,
        family=judged.family,
        weights=taken.weights,
        would_run=judged.would_run,
        layers=judged.layers,
        clean=None if taken.clean is None or verdict_of(findings).refuses else taken.clean,
    )


def _unwritable(views: Views, target: Target | None) -> list[Finding]:
    """What the weights have that the clean file's format has not."""
    if target is None or target.format != "safetensors":
        return []
    wrong = [name for name, view in views if view.dtype.name not in safetensors.DTYPES or name == safetensors.RESERVED]
    if not wrong:
        return []
    what = ", ".join(wrong[:5])
    return [find("FM304", wrong[0], f"a safetensors file cannot hold {what}", evidence=what, advice="Write a .pt file instead.")]


def _extracted(file: OpenFile, storages: Sequence[Storage], views: Views, target: Target | None) -> Extraction:
    if not views and file.version.size > MAX_UNUSED:
        return Extraction(None, [])
    try:
        out, form = (None, CleanPt) if target is None else (target.fd, _FORMATS[target.format])
        taken = extract(file.fd, file.version.size, storages, views, out, form)
    except BrokenStorage as e:
        return Extraction(None, [find(e.code, "the file", str(e))])
    if version_of(os.fstat(file.fd)) == file.version:
        return taken
    return taken._replace(findings=[*taken.findings, find("FM113", "the file", "the file changed while it was read")])
