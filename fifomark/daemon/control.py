"""What an operator asks for at the command line: done by the daemon that holds the spool, or, where none does, by the command itself."""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from collections.abc import Sequence

from fifomark.core.errors import FifomarkError, InternalError
from fifomark.core.keeping import Pruned
from fifomark.core.requests import MAX_IDS, Answer, Done, Request, Verb
from fifomark.core.states import State
from fifomark.core.submission import Submission
from fifomark.core.text import shown
from fifomark.daemon.placing import place
from fifomark.ledger.ledger import Ledger
from fifomark.spool.lock import held, holder
from fifomark.spool.requests import answer, ask, pending
from fifomark.spool.spool import NAME_TAKEN, Spool

_log = logging.getLogger(__name__)
_PATIENCE = 30.0  # seconds: a daemon answers within one, unless it is just admitting many files, or hangs


def steer(root: str | os.PathLike[str], verb: Verb, ids: Sequence[int] = (), stage: Pruned = Pruned.NOTHING) -> Answer:
    """Let `verb` be done to the submissions `ids`; SpoolError where there is no spool, InternalError where its daemon does not answer."""
    spool, wanted = Spool(root), tuple(dict.fromkeys(ids))
    parts = [wanted[at : at + MAX_IDS] for at in range(0, len(wanted), MAX_IDS)] or [()]
    answers = [_steered(spool, Request(verb=verb, ids=part, stage=stage)) for part in parts]
    return Answer(results=tuple(result for said in answers for result in said.results))


def _steered(spool: Spool, request: Request) -> Answer:
    if holder(spool.layout) is None:
        with held(spool.layout), Ledger(spool.layout.ledger) as ledger:
            return obey(spool, ledger, request, time.time())
    said = ask(spool.layout, request, _PATIENCE)
    if said is None:
        raise InternalError(f"{spool.layout.root}: its daemon did not answer within {_PATIENCE:g} s; nothing was changed")
    return said


def obey_requests(spool: Spool, ledger: Ledger, now: float) -> bool:
    """Do what was asked of the daemon, and answer; whether anything was."""
    asked = list(pending(spool.layout))
    for path, request in asked:
        try:
            said = obey(spool, ledger, request, now)
        except (FifomarkError, OSError, sqlite3.Error):
            raise  # not the request's fault: it is there for the next daemon
        except Exception as e:  # ours; the next daemon would come to the same end
            _log.exception("a request to %s could not be done", request.verb)
            said = Answer(results=(Done(id=None, done=False, message=f"{request.verb} failed: {type(e).__name__}: {e}; see the log"),))
        answer(path, said)
    return bool(asked)


def obey(spool: Spool, ledger: Ledger, request: Request, now: float) -> Answer:
    """Do it: what is decided is committed first, and the files follow."""
    with ledger.batch():
        if request.verb in ("pause", "resume"):
            return Answer(results=(_pause(ledger, request.verb),))
        results = [_done(spool, ledger, request, id, now) for id in request.ids]
    spool.sync()
    moves = request.verb in ("retry", "prune")
    lost = place(spool, ledger, (ledger.get(r.id) for r in results if r.id is not None and r.done and moves), now)
    return Answer(results=tuple(_lost(r) if r.id in lost else r for r in results))


def _lost(result: Done) -> Done:
    return Done(id=result.id, done=False, message="its file could not come back to incoming/: something is in its way there")


def _pause(ledger: Ledger, verb: Verb) -> Done:
    before = ledger.steering.paused
    ledger.steering.pause("by the operator" if verb == "pause" else None)
    if verb == "pause":
        return Done(id=None, done=True, message="paused already" if before else "paused: what runs goes on, nothing new is started")
    return Done(id=None, done=True, message="goes on" if before else "was not paused")


def _done(spool: Spool, ledger: Ledger, request: Request, id: int, now: float) -> Done:
    submission = ledger.find(id)
    if submission is None:
        return Done(id=id, done=False, message="no submission has this id")
    why_not = _why_not(spool, ledger, request.verb, submission) or _do(spool, ledger, request, submission, now)
    name = shown(submission.name)
    return Done(id=id, done=why_not is None, message=f"{name}: {why_not}" if why_not else f"{name}: {_SAID[request.verb]}")


_SAID = {"hold": "held", "release": "waits again", "withdraw": "withdrawn", "retry": "waits for another attempt", "prune": "pruned"}
_MAY: dict[str, tuple[tuple[State, ...], str]] = {
    "hold": ((State.QUEUED,), "only what waits in incoming/ can be held"),
    "release": ((State.HELD,), "only what is held can be released"),
    "withdraw": ((State.QUEUED, State.HELD), "only what waits in incoming/ can be withdrawn"),
    "retry": ((State.REJECTED, State.FAILED), "only what was rejected or failed can be tried again"),
    "prune": ((State.DONE, State.REJECTED, State.FAILED), "only what has ended can be pruned"),
}


def _why_not(spool: Spool, ledger: Ledger, verb: Verb, submission: Submission) -> str | None:
    states, rule = _MAY[verb]
    if submission.state not in states or submission.moving:
        return f"is {submission.state}; {rule}"
    if verb == "retry" and ledger.admission.waits((submission.folder, submission.name)):
        return NAME_TAKEN  # or has, and nobody has noticed yet that it is gone
    return spool.can_come_back(submission) if verb == "retry" else None


def _do(spool: Spool, ledger: Ledger, request: Request, submission: Submission, now: float) -> str | None:
    """Why it could not be done, if so."""
    match request.verb:
        case "hold":
            ledger.steering.hold(submission.id, now)
        case "release":
            ledger.steering.release(submission.id, now)
        case "retry":
            ledger.steering.retry(submission.id, now)
        case "prune":
            ledger.retention.prune(submission.id, request.stage, now)
        case _:
            try:
                spool.withdraw(submission)  # first: were it left, it would come in again
            except OSError as e:
                return f"cannot be deleted from incoming/: {e.strerror}"
            ledger.move(submission.id, State.WITHDRAWN, now, note="withdrawn by the operator")
    return None
