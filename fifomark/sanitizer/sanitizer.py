"""The sanitizer: from a path to an inspection and, where the verdict lets it through, a clean file. Loads nothing, runs nothing.

It opens files and gives clean files their names. What lies between is done by two processes that can open nothing: the parser, which
describes the file, and the writer, which judges the description, reads the weights and writes them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import NamedTuple

from msgspec.structs import replace

from fifomark.core.catalogue import find
from fifomark.core.errors import InternalError
from fifomark.core.findings import Finding
from fifomark.core.inspection import MAX_PATH, Inspection, conclude
from fifomark.core.policy import Isolation, Limits, Policy
from fifomark.core.text import shown
from fifomark.sandbox.enter import Strictness
from fifomark.sanitizer.messages import Answer, CleanFormat, Greeting, Item, Request
from fifomark.sanitizer.opening import Submission, open_submission
from fifomark.sanitizer.parser_server import MAX_FILES
from fifomark.sanitizer.publishing import Publication
from fifomark.sanitizer.writer_client import Lost, WriterClient

AnyPath = str | bytes | os.PathLike[str] | os.PathLike[bytes]
_SMALL = 1 << 20  # bytes of a file that may share its parser with others


class Job(NamedTuple):
    """`name` is the one it was dropped under, by which its extension is judged (default: the path's). `clean_to`: where a clean file goes,
    in place of what bears that name."""

    path: AnyPath
    name: str | None = None
    clean_to: str | None = None


class _Opened(NamedTuple):
    path: str
    file: Submission
    findings: tuple[Finding, ...]
    target: Publication | None


class Sanitizer:
    """Owns one writer and its parser server, from entering the context to leaving it. For one thread; several may exist at once."""

    def __init__(
        self,
        limits: Limits = Limits(),  # noqa: B008 (frozen records)
        policy: Policy = Policy(),  # noqa: B008
        sandbox: Strictness = "auto",
        isolation: Isolation = Isolation.SUBMISSION,
    ) -> None:
        self._limits, self._policy, self._isolation = limits, policy, isolation
        self._writer = WriterClient(sandbox=sandbox)

    @property
    def in_force(self) -> Greeting:
        """How the parser and the writer are locked down."""
        return self._writer.greeting

    def inspect(
        self,
        path: AnyPath,
        *,
        name: str | None = None,
        clean_to: str | None = None,
        format: CleanFormat = "pt",
        policy: Policy | None = None,
        limits: Limits | None = None,
    ) -> Inspection:
        """What the file at `path` is; see Job. Whatever is wrong with it is a finding.

        InternalError where no parser or writer can be started, OSError where the clean file cannot be written.
        """
        (seen,) = self.inspect_all([Job(path, name, clean_to)], format=format, policy=policy, limits=limits)
        return seen

    def inspect_all(
        self, jobs: Iterable[Job], *, format: CleanFormat = "pt", policy: Policy | None = None, limits: Limits | None = None
    ) -> Iterator[Inspection]:
        """The same for many files, in their order."""
        limits, policy = limits or self._limits, policy or self._policy
        for group in self._grouped(jobs):
            yield from self._inspected(group, format, policy, limits)

    def close(self) -> None:
        """End the writer and its parser server."""
        self._writer.close()

    def __enter__(self) -> Sanitizer:
        self._writer.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _grouped(self, jobs: Iterable[Job]) -> Iterator[list[Job]]:
        """The jobs that share a parser: small ones, where batches are allowed."""
        group: list[Job] = []
        for job in jobs:
            small = self._isolation is Isolation.BATCH and _size(job.path) <= _SMALL
            if group and (not small or len(group) == MAX_FILES):
                yield group
                group = []
            if small:
                group.append(job)
            else:
                yield [job]
        if group:
            yield group

    def _inspected(self, jobs: Sequence[Job], format: CleanFormat, policy: Policy, limits: Limits) -> list[Inspection]:
        with ExitStack() as stack:
            opened = [_opened(job, policy, limits, stack) for job in jobs]
            files = [one for one in opened if isinstance(one, _Opened)]
            answers = iter(self._asked(files, Request(items=_items(files), policy=policy, limits=limits, format=format)) if files else ())
            return [one if isinstance(one, Inspection) else _published(one, next(answers)) for one in opened]

    def _asked(self, files: Sequence[_Opened], request: Request) -> list[Answer]:
        """A writer that is lost is started again, since somebody else may have ended it. One that is lost again was lost to a file."""
        fds = [fd for one in files for fd in ((one.file.fd, one.target.fd) if one.target is not None else (one.file.fd,))]
        limits = request.limits
        for _ in range(2):
            try:
                return self._writer.ask(request, fds, limits.parse_seconds + limits.sanitize_seconds)
            except Lost as e:
                overdue = e.overdue
            for one in files:
                if one.target is not None:
                    one.target.empty()
            if overdue:
                break
        if len(files) > 1:
            alone = [([one], replace(request, items=(item,))) for one, item in zip(files, request.items, strict=True)]
            return [answer for one, own in alone for answer in self._asked(one, own)]
        (item,) = request.items
        why = f"it takes more than {limits.sanitize_seconds:g} seconds" if overdue else "its reader was lost twice"
        lost = find("FM208", "the file", f"reading it was stopped: {why}")
        return [Answer(inspection=conclude(item.path, [*item.findings, lost], size=item.version.size))]


def _size(path: AnyPath) -> int:
    try:
        return os.lstat(path).st_size
    except (OSError, ValueError):
        return 0  # opening it will say what is wrong


def _opened(job: Job, policy: Policy, limits: Limits, stack: ExitStack) -> _Opened | Inspection:
    """The file and where its clean file goes, open until the stack unwinds; the inspection of one that is not read."""
    path = os.fsdecode(job.path)
    findings = _extension(path if job.name is None else job.name, policy)
    opened = open_submission(path)
    if isinstance(opened, Finding):
        return conclude(path, [*findings, opened])
    file = stack.enter_context(opened)
    size = file.version.size
    if size > limits.file_bytes:
        large = find("FM110", "the file", f"the file has {size:,} bytes; at most {limits.file_bytes:,} are read")
        return conclude(path, [*findings, large], size=size)
    target = stack.enter_context(Publication(job.clean_to)) if job.clean_to is not None else None
    return _Opened(path, file, tuple(findings), target)


def _extension(name: str, policy: Policy) -> list[Finding]:
    if name.endswith(policy.extensions):
        return []
    return [find("FM101", "the file", f"the name does not end in {' or '.join(policy.extensions)}", evidence=os.path.basename(name))]


def _items(files: Sequence[_Opened]) -> tuple[Item, ...]:
    return tuple(
        Item(path=shown(one.path, MAX_PATH), version=one.file.version, findings=one.findings, write=one.target is not None) for one in files
    )


def _published(opened: _Opened, answer: Answer) -> Inspection:
    if answer.inspection is None:
        trouble = answer.trouble
        assert trouble is not None
        if trouble.errno is not None:
            raise OSError(trouble.errno, trouble.message)
        raise InternalError(f"the writer failed on {opened.path}: {trouble.message}")
    if answer.inspection.clean is not None and opened.target is not None:
        opened.target.publish()
    return answer.inspection
