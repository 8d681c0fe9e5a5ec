"""The sanitizer: from a path to an inspection and, where the verdict lets it through, a clean file. Loads nothing, runs nothing.

It opens files and gives clean files their names. What lies between is done by two processes that can open nothing: the parser, which
describes the file, and the writer, which judges the description, reads the weights and writes them.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from itertools import repeat
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
from fifomark.sanitizer.batch import MAX_FILES
from fifomark.sanitizer.messages import Answer, CleanFormat, Greeting, Item, Request
from fifomark.sanitizer.opening import Submission, open_submission
from fifomark.sanitizer.publishing import Publication
from fifomark.sanitizer.writer_client import Lost, WriterClient

AnyPath = str | bytes | os.PathLike[str] | os.PathLike[bytes]
Failure = InternalError | OSError  # on our side, over one file
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
        self._writer = WriterClient(sandbox=sandbox, files=MAX_FILES if isolation is Isolation.BATCH else 1)

    @property
    def in_force(self) -> Greeting:
        """How the parser and the writer are locked down."""
        return self._writer.greeting

    @property
    def pid(self) -> int | None:
        """The writer's process; its parser server is its only child."""
        return self._writer.pid

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
        if isinstance(seen, Inspection):
            return seen
        raise seen

    def inspect_all(
        self, jobs: Iterable[Job], *, format: CleanFormat = "pt", policy: Policy | None = None, limits: Limits | None = None
    ) -> Iterator[Inspection | Failure]:
        """The same for many files, in their order. What goes wrong on our side over one of them is given in its place: it costs no other
        file its answer. A clean file gets its name as its inspection is given."""
        template = Request(items=(), policy=policy or self._policy, limits=limits or self._limits, format=format)
        waiting: deque[_Group] = deque()
        try:
            for some in self._grouped(jobs):
                group = _Group(some, template)
                waiting.append(group)
                # One small group ahead of the one that is being worked on.
                if len(waiting) == 1 or (group.small and waiting[0].sent):
                    with suppress(InternalError):  # it is said when its turn comes
                        self._send(group)
                if len(waiting) > 1:
                    yield from self._settled(waiting)
            while waiting:
                yield from self._settled(waiting)
        finally:
            if waiting:
                self._writer.close(kill=True)  # nobody will ever take its answers
            for group in waiting:
                group.close()

    def close(self) -> None:
        """End the writer and its parser server."""
        self._writer.close()

    def launch(self) -> None:
        """Start the writer without waiting for it: whoever has something else to do first may do it meanwhile."""
        self._writer.launch()

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

    def _send(self, group: _Group) -> None:
        with suppress(Lost):  # it is asked again when its turn comes
            if group.files:
                self._writer.send(group.request, group.fds)
            group.sent = True

    def _settled(self, waiting: deque[_Group]) -> Iterator[Inspection | Failure]:
        """Take the first group off; what each of its files comes to is published as it is said."""
        group = waiting[0]
        try:
            answers = self._answers_or_why_not(group, [other for other in waiting if other is not group])
            for one in group.opened:
                yield _published(one, next(answers)) if isinstance(one, _Opened) else one
        finally:
            waiting.popleft()
            group.close()

    def _answers_or_why_not(self, group: _Group, others: Sequence[_Group]) -> Iterator[Answer | InternalError]:
        try:
            yield from self._answers(group, others)
        except InternalError as e:  # no writer can be started
            yield from repeat(e)

    def _answers(self, group: _Group, others: Sequence[_Group]) -> Iterator[Answer]:
        """A writer that is lost is started again, since somebody else may have ended it. One that is lost again was lost to a file.

        `others` are lost with it where they were sent already.
        """
        limits = group.request.limits
        overdue = False
        for _ in range(2):
            if not group.files:
                return
            if not group.sent:
                self._send(group)
            answered = 0
            try:
                for answer in self._writer.receive(group.request, limits.parse_seconds + limits.sanitize_seconds):
                    answered += 1
                    yield answer
                return
            except Lost as e:
                overdue = e.overdue
            group = group.after(answered)
            for lost in (group, *others):
                lost.forget()
            if overdue:
                break
        if len(group.files) > 1:
            for one in group.alone():
                yield from self._answers(one, others)
            return
        (item,) = group.request.items
        why = f"it takes more than {limits.sanitize_seconds:g} seconds" if overdue else "its reader was lost twice"
        refused = find("FM208", "the file", f"reading it was stopped: {why}")
        yield Answer(inspection=conclude(item.path, [*item.findings, refused], size=item.version.size))


class _Group:
    """Jobs that the writer is asked about at once. `opened` has what became of each that is not read; `files` are the others."""

    def __init__(self, jobs: Sequence[Job], template: Request) -> None:
        """`template` is a request without items."""
        self._stack = ExitStack()
        with self._stack as stack:  # closed where opening fails
            self.opened = [_opened(job, template.policy, template.limits, stack) for job in jobs]
            self._stack = stack.pop_all()
        self._take([one for one in self.opened if isinstance(one, _Opened)], template)

    def _take(self, files: list[_Opened], template: Request) -> None:
        self.files, self.request, self.sent = files, replace(template, items=_items(files)), False
        self.fds = [fd for one in files for fd in ((one.file.fd, one.target.fd) if one.target is not None else (one.file.fd,))]

    @property
    def small(self) -> bool:
        return all(one.file.version.size <= _SMALL for one in self.files)

    def after(self, count: int) -> _Group:
        """Its files but for the first `count`, as a group that need not be closed."""
        return self._of(self.files[count:])

    def alone(self) -> Iterator[_Group]:
        """Its files as groups of one, which need not be closed."""
        return (self._of([one]) for one in self.files)

    def _of(self, files: list[_Opened]) -> _Group:
        group = _Group((), self.request)
        group._take(files, self.request)
        return group

    def forget(self) -> None:
        """The writer knows nothing of it any more."""
        self.sent = False
        for one in self.files:
            if one.target is not None:
                one.target.empty()

    def close(self) -> None:
        self._stack.close()


def _size(path: AnyPath) -> int:
    try:
        return os.lstat(path).st_size
    except (OSError, ValueError):
        return 0  # opening it will say what is wrong


def _opened(job: Job, policy: Policy, limits: Limits, stack: ExitStack) -> _Opened | Inspection | Failure:
    """The file and where its clean file goes, open until the stack unwinds; what became of one that is not read."""
    try:
        return _open(job, policy, limits, stack)
    except OSError as e:
        return e


def _open(job: Job, policy: Policy, limits: Limits, stack: ExitStack) -> _Opened | Inspection:
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


def _published(opened: _Opened, answer: Answer | InternalError) -> Inspection | Failure:
    if isinstance(answer, InternalError):
        return answer
    target, trouble = opened.target, answer.trouble
    if trouble is not None and trouble.errno is not None:
        return OSError(trouble.errno, trouble.message, opened.path, None, target.path if target is not None else None)
    if trouble is not None:
        return InternalError(f"the writer failed on {opened.path}: {trouble.message}")
    assert answer.inspection is not None
    if answer.inspection.clean is not None and target is not None:
        try:
            target.publish()
        except OSError as e:
            return e
    return answer.inspection
