"""A judge of models that costs nothing, in place of torch. Everything around it is the real thing."""

from __future__ import annotations

import os
from multiprocessing.connection import Connection

import msgspec

from fifomark.core.catalogue import find
from fifomark.core.outcome import Cost, Evaluation, Failed, Marked, MarkTicket, Metric, Outcome, Reason, Refused
from fifomark.workers.post import READY
from fifomark.workers.slots import Slot

TOO_LONG = Reason(code="limit-exceeded", message="it took longer than it may", blame="submitter")


def mark(ticket: MarkTicket) -> Outcome:
    """Goes by the name of a clean file, which must be there."""
    os.stat(ticket.path)
    name = os.path.basename(ticket.path)
    if "misfit" in name:
        return Refused(findings=(find("FM503", "model", "its name says that it does not fit"),))
    if "slow" in name:
        return Failed(reason=TOO_LONG)
    metrics = tuple(Metric(id=id, split="all", value=0.5, n=30) for id in ("accuracy",))
    cost = Cost(forward_seconds=0.1, total_seconds=0.2)
    evaluation = Evaluation(
        rubric_sha256=ticket.rubric_sha256, dataset_sha256="0" * 64, device="cpu", metrics=metrics, audits=(), cost=cost
    )
    return Marked(evaluation=evaluation)


def serve_marking(connection: Connection, slot: Slot) -> None:
    """The main of a slot's worker that marks without torch."""
    connection.send_bytes(READY)
    while True:
        ticket = msgspec.json.decode(connection.recv_bytes(), type=MarkTicket)
        connection.send_bytes(msgspec.json.encode(mark(ticket)))
