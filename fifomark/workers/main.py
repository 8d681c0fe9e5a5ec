"""A worker's side: read a ticket, judge, say the outcome. The one doorway to torch of all that the daemon runs."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import TypeVar

import msgspec

from fifomark.core.outcome import Failed, MarkTicket, Outcome, Reason, Sanitized, SanitizeTicket
from fifomark.core.text import shown
from fifomark.sandbox.enter import Strictness
from fifomark.workers.local import READY
from fifomark.workers.process import BOOT_FAILURE
from fifomark.workers.slots import Slot


def serve_sanitizing(sandbox: Strictness, connection: Connection, slot: Slot) -> None:
    """The judge of files: a writer with its parser server, locked down as `sandbox` says. Knows no torch."""
    from fifomark.sanitizer.sanitizer import Sanitizer

    with Sanitizer(sandbox=sandbox) as sanitizer:

        def judge(ticket: SanitizeTicket) -> Outcome:
            inspection = sanitizer.inspect(
                ticket.path, name=ticket.name, clean_to=ticket.clean_path, policy=ticket.policy, limits=ticket.limits
            )
            return Sanitized(inspection=inspection)

        _serve(connection, SanitizeTicket, judge)


def serve_marking(connection: Connection, slot: Slot) -> None:
    """The judge of models: rubric, data and torch, loaded once."""
    try:
        from fifomark.marking.evaluation import Bench, evaluate

        bench = Bench(device=slot.device, threads=slot.threads)
    except Exception:
        traceback.print_exc()
        sys.exit(BOOT_FAILURE)
    _serve(connection, MarkTicket, lambda ticket: evaluate(ticket, bench))


T = TypeVar("T", SanitizeTicket, MarkTicket)


def _serve(connection: Connection, kind: type[T], judge: Callable[[T], Outcome]) -> None:
    connection.send_bytes(READY)
    while True:
        ticket = msgspec.json.decode(connection.recv_bytes(), type=kind)
        try:
            said = msgspec.json.encode(judge(ticket))
        except Exception as e:
            # A bad model is a value by now; what is raised here is a bug of ours or a broken machine.
            traceback.print_exc()
            failed = Failed(reason=Reason(code="internal-error", message=shown(f"{type(e).__name__}: {e}", 1000), blame="operator"))
            said = msgspec.json.encode(failed)
        connection.send_bytes(said)
