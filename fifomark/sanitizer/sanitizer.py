"""The sanitizer: one file in, an inspection and, if it passes, a clean file out. A bad file is a value, never an exception."""

from __future__ import annotations

import os
from collections.abc import Sequence
from types import TracebackType

from fifomark.core.catalogue import find
from fifomark.core.findings import Finding, verdict_of
from fifomark.core.inspection import CleanFile, Form, Inspection
from fifomark.core.policy import Limits, Policy
from fifomark.core.text import shown
from fifomark.core.weights import FamilySeen, TensorSpec, WeightsSummary
from fifomark.sanitizer.checks import Checked, check
from fifomark.sanitizer.client import ParserClient
from fifomark.sanitizer.code_rules import CodeSeen, disarmed, judge
from fifomark.sanitizer.extraction import extract, read_through
from fifomark.sanitizer.forms import Chosen, choose
from fifomark.sanitizer.opening import Submission, open_submission
from fifomark.sanitizer.publishing import Publication
from fifomark.torchfile.description import Description, Storage
from fifomark.torchfile.views import BrokenStorage, View


class Sanitizer:
    """Owns a parser server, started with the first file. InternalError where it cannot be started."""

    def __init__(self, limits: Limits = Limits(), policy: Policy = Policy()) -> None:  # noqa: B008  frozen records
        self._limits, self._policy = limits, policy
        self._parser = ParserClient()

    def inspect(
        self,
        path: str | bytes | os.PathLike[str],
        *,
        name: str | None = None,
        clean_to: str | None = None,
        policy: Policy | None = None,
        limits: Limits | None = None,
    ) -> Inspection:
        """What the file at `path` is; `name` is the one that it was dropped under (its extension counts), by default the path's.

        With `clean_to`, a file that passes is written there as a clean file, whole and fsynced, replacing what is there. OSError where
        that cannot be written; nothing that is wrong with the file itself raises.
        """
        text = os.fsdecode(path)
        case = _Case(text, policy or self._policy, limits or self._limits)
        case.check_extension(text if name is None else name)
        opened = open_submission(text)
        if isinstance(opened, Finding):
            case.findings.append(opened)
            return case.inspection()
        with opened:
            if opened.size > case.limits.file_bytes:
                message = f"{opened.size:,} bytes; at most {case.limits.file_bytes:,} are taken"
                case.findings.append(find("FM110", "the file", message))
                case.size = opened.size
            else:
                case.read(opened, self._parser, clean_to)
        return case.inspection()

    def close(self) -> None:
        """End the parser server."""
        self._parser.close()

    def __enter__(self) -> Sanitizer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


class _Case:
    """One file on its way to an inspection."""

    def __init__(self, path: str, policy: Policy, limits: Limits) -> None:
        self.path, self.policy, self.limits = path, policy, limits
        self.findings: list[Finding] = []
        self.size: int | None = None
        self.sha256: str | None = None
        self.container: str | None = None
        self.form: Form | None = None
        self.family: FamilySeen | None = None
        self.weights: WeightsSummary | None = None
        self.would_run: tuple[str, ...] = ()
        self.clean: CleanFile | None = None

    def check_extension(self, name: str) -> None:
        extension = os.path.splitext(name)[1].lower()
        if extension not in self.policy.extensions:
            allowed = " or ".join(self.policy.extensions)
            self.findings.append(find("FM101", "the file's name", f"its name ends in {extension or 'no extension'!r}, not in {allowed}"))

    def read(self, file: Submission, parser: ParserClient, clean_to: str | None) -> None:
        """Everything that needs the file's bytes."""
        self.size = file.size
        try:
            described = parser.describe(file.fd, self.limits)
            views = self._judge(described, file.size)
            storages = described.storages if isinstance(described, Description) and views else ()
            self.sha256, wrong = read_through(file.fd, file.size, storages)
            self.findings += [find("FM111", f"storage {s.key}", "its checksum does not match its bytes") for s in wrong]
            if views and not self._refused:
                self._extract(file, storages, views, clean_to)
        except BrokenStorage as e:
            self.findings.append(find(e.code, "the file", str(e)))
        if file.changed():
            self.findings.append(find("FM113", "the file", "the file changed while it was read"))

    def _judge(self, described: Description | Finding, size: int) -> Sequence[tuple[str, View]]:
        """The findings on structure and code; the weights as checked views, empty where there are none to take."""
        if isinstance(described, Finding):
            self.findings.append(described)
            return ()
        self.container = described.container
        self.findings += [find(p.code, p.where, p.message, evidence=p.evidence) for p in described.problems]
        code = judge(described, self.policy)
        self.would_run = code.would_run
        if described.container is None:
            self._foreign(described, code)
            return ()
        chosen, checked = self._weights(described, size)
        self.form = chosen.form
        self.findings += [*chosen.findings, *checked.findings]
        self.findings += disarmed(code.findings) if checked.views and self.policy.on_unsafe == "disarm" else code.findings
        if checked.views:
            self.family = _family(checked.views)
        return checked.views

    def _foreign(self, described: Description, code: CodeSeen) -> None:
        """Not a torch file: what it is instead, and what loading it as a pickle would have run all the same."""
        self.findings += code.findings
        if described.foreign or not self._refused:
            what = f"this is {described.foreign}" if described.foreign else "this is no file that torch.save wrote"
            self.findings.append(find("FM106", "the file", what))

    def _weights(self, described: Description, size: int) -> tuple[Chosen, Checked]:
        """Weights are looked for only where the structure could be read to its end: what is missing then says nothing."""
        if described.root is None:
            return Chosen(None, (), []), Checked([], [])
        chosen = choose(described)
        return chosen, check(described, chosen.entries, size, self.limits) if chosen.entries else Checked([], [])

    def _extract(self, file: Submission, storages: Sequence[Storage], views: Sequence[tuple[str, View]], clean_to: str | None) -> None:
        if clean_to is None:
            self.weights, broken = extract(file.fd, storages, views, None)
            self.findings += broken
            return
        with Publication(clean_to) as out:
            self.weights, broken = extract(file.fd, storages, views, out.fd)
            self.findings += broken
            if self._refused or file.changed():
                return
            size = os.fstat(out.fd).st_size
            sha256, _ = read_through(out.fd, size)
            out.publish()
        assert self.weights.sha256 is not None
        self.clean = CleanFile(size=size, sha256=sha256, weights_sha256=self.weights.sha256)

    @property
    def _refused(self) -> bool:
        return verdict_of(self.findings).refuses

    def inspection(self) -> Inspection:
        findings = tuple(sorted(self.findings, key=lambda finding: (-finding.level.rank, finding.code)))
        return Inspection(
            path=shown(self.path, 4096),
            verdict=verdict_of(findings),
            container=self.container,
            form=self.form,
            family=self.family,
            findings=findings,
            weights=self.weights,
            would_run=tuple(shown(call, 2000) for call in self.would_run),
            size=self.size,
            sha256=self.sha256,
            clean=self.clean,
        )


def _family(views: Sequence[tuple[str, View]]) -> FamilySeen:
    from fifomark.families.registry import recognise

    return recognise([TensorSpec(name=name, dtype=view.dtype.name, shape=view.shape) for name, view in views])
