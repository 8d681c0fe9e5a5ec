"""A worker's side: read a ticket, judge, say the outcome. The one doorway to torch of all that the daemon runs."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import TypeVar

import msgspec
from msgspec.structs import replace

from fifomark import plugins
from fifomark.core.errors import InternalError
from fifomark.core.inspection import Inspection
from fifomark.core.outcome import Failed, MarkTicket, Outcome, Reason, Sanitized, SanitizeTicket
from fifomark.core.policy import Isolation
from fifomark.core.text import shown
from fifomark.sandbox.enter import Strictness
from fifomark.workers.post import LOADED, LOADING, READY, SPENT, UNFIT
from fifomark.workers.process import BOOT_FAILURE, Line
from fifomark.workers.slots import Slot

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def serve_sanitizing(sandbox: Strictness, isolation: Isolation, connection: Line, slot: Slot) -> None:
    """The judge of files: a writer with its parser server, locked down as `sandbox` says. Knows no torch."""
    from fifomark.sanitizer.sanitizer import Job, Sanitizer

    with Sanitizer(sandbox=sandbox, isolation=isolation) as sanitizer:

        def judge(tickets: Sequence[SanitizeTicket]) -> Iterator[Outcome]:
            for (policy, limits), group in groupby(tickets, lambda ticket: (ticket.policy, ticket.limits)):
                some = list(group)
                jobs = [Job(ticket.path, ticket.name, ticket.clean_path) for ticket in some]
                seen = sanitizer.inspect_all(jobs, policy=policy, limits=limits)
                for ticket, one in zip(some, seen, strict=True):
                    yield _sanitized(one, ticket) if isinstance(one, Inspection) else unsanitized(one, ticket)

        _serve(connection, SanitizeTicket, judge)


def unsanitized(error: Exception, ticket: SanitizeTicket) -> Failed:
    """What kept a file from being read. A disk that does not take clean files is no matter of one file: every other would fail as well."""
    if isinstance(error, OSError) and (error.errno in _FULL or error.filename == ticket.clean_path):
        return Failed(reason=Reason(code="disk-error", message=shown(f"{ticket.clean_path}: {error.strerror}", 1000), blame="operator"))
    return _failed(error)


def _sanitized(seen: Inspection, ticket: SanitizeTicket) -> Outcome:
    """With the family that plugins know, asked here: they are nothing for the writer, which reads strangers' bytes."""
    from fifomark.families import registry

    if not ticket.families or seen.weights is None:
        return Sanitized(inspection=seen)
    try:
        family = registry.recognise(seen.weights.tensors, registry.with_plugins(ticket.families))
    except (Exception, SystemExit, KeyboardInterrupt) as e:  # a plugin's sys.exit() too
        traceback.print_exc()
        return _failed(e)
    return Sanitized(inspection=replace(seen, family=family))


MARKING = "fifomark.marking.evaluation"  # what it takes seconds to import


def serve_marking(connection: Line, slot: Slot) -> None:
    """The judge of models: rubric, data and torch, loaded once."""
    _leave_stdout()
    try:
        from fifomark.marking.evaluation import Bench, evaluate

        bench = Bench(
            device=slot.device,
            threads=slot.threads,
            share=slot.share,
            on_loading=lambda under_way: connection.send_bytes(LOADING if under_way else LOADED),
        )
    except Exception as e:
        if not isinstance(e, InternalError):  # which says it all
            traceback.print_exc()
        what = str(e) if isinstance(e, InternalError) else f"{type(e).__name__}: {e}"
        connection.send_bytes(UNFIT + shown(what, 300).encode())
        sys.exit(BOOT_FAILURE)

    def judge(tickets: Sequence[MarkTicket]) -> Iterator[Outcome]:
        for ticket in tickets:
            outcome = evaluate(ticket, bench)
            if not bench.is_fit():
                connection.send_bytes(SPENT)
            yield outcome

    _serve(connection, MarkTicket, judge)


def _leave_stdout() -> None:
    """What models, plugins and a rubric's own Python print is no result of `fifomark mark`: it goes where messages go."""
    with contextlib.suppress(OSError):
        os.dup2(2, 1)


T = TypeVar("T", SanitizeTicket, MarkTicket)


def _serve(connection: Line, kind: type[T], judge: Callable[[Sequence[T]], Iterator[Outcome]]) -> None:
    """Take tickets, all that lie ready, and say an outcome for each, in their order."""
    connection.send_bytes(READY)
    while True:
        tickets = [msgspec.json.decode(connection.recv_bytes(), type=kind)]
        while connection.poll():
            tickets.append(msgspec.json.decode(connection.recv_bytes(), type=kind))
        for outcome in _outcomes(judge, tickets):
            connection.send_bytes(msgspec.json.encode(outcome))


def _outcomes(judge: Callable[[Sequence[T]], Iterator[Outcome]], tickets: Sequence[T]) -> Iterator[Outcome]:
    """What `judge` says of each. A bad model is a value by now; what is raised is ours, and ends one ticket."""
    done = 0
    try:
        for outcome in judge(tickets):
            yield outcome
            done += 1
        return
    except Exception as e:
        if len(tickets) == 1:
            traceback.print_exc()
            yield _failed(e)
            return
    for ticket in tickets[done:]:  # not all of them had a part in it
        yield from _outcomes(judge, [ticket])


def _failed(error: BaseException) -> Failed:
    plugin = plugins.responsible(error)
    message = str(plugin) if plugin else f"{type(error).__name__}: {error}"
    return Failed(reason=Reason(code="internal-error", message=shown(message, 1000), blame="operator"))
