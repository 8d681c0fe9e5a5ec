"""The daemon: one turn of the machine is `tick(now)`, so that tests need no sleeping.

A turn collects what has ended, admits what has settled, claims and starts what is next, and commits all of it at once. Only then do
files move; a state that is committed while its file still lies elsewhere is marked `moving`, and recovery finishes it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

import msgspec

from fifomark.core.clock import utc
from fifomark.core.errors import ConfigError, InternalError, UsageError
from fifomark.core.outcome import Failed, Lost, Marked, Outcome, Reason, Refused, Sanitized
from fifomark.core.overruns import lost
from fifomark.core.states import FINAL, State
from fifomark.core.submission import EVERYTHING, Look, Submission
from fifomark.daemon.admitting import Admitting
from fifomark.daemon.attempts import exhausted, undecided
from fifomark.daemon.control import obey_requests
from fifomark.daemon.dispatch import bounds
from fifomark.daemon.duplicates import duplicates
from fifomark.daemon.placing import place
from fifomark.daemon.rubrics import Rubrics, refresh
from fifomark.daemon.sanitize_queue import SanitizeQueue
from fifomark.daemon.settling import settle
from fifomark.daemon.slot_queue import SlotQueue
from fifomark.daemon.tickets import mark_ticket
from fifomark.ledger.ledger import Ledger
from fifomark.marking.grade import grade
from fifomark.reports.compose import MARKED, refusal
from fifomark.spool.requests import forget_answers
from fifomark.spool.space import Space
from fifomark.spool.spool import Spool
from fifomark.workers.pool import SHORT_SECONDS, Ended, Pool

_log = logging.getLogger(__name__)
_BUSY_SECONDS = 0.5  # how often overdue workers are looked for; what ends wakes the loop at once
_MAX_CHANGED = 8  # that were next and are not what they were, of which one turn lets the ledger know before it goes on
SELDOM_SECONDS = 1.0  # between two looks at what changes seldom: rubrics, and what waits for one that is gone


class Daemon:
    """`rubrics` are those of the spool by name, each with the hash it was read with."""

    def __init__(self, spool: Spool, ledger: Ledger, rubrics: Rubrics, sanitizers: Pool, slots: Pool, *, lenient: bool = False) -> None:
        """`lenient`: a rubric that is broken later stops its own submissions only."""
        self.ledger = ledger
        self.broken: dict[str, str] = {}  # rubrics that are wrong, and why: their submissions wait
        self.closing = False  # nothing new is started any more
        self._lenient = lenient
        self.admitting = Admitting(spool, ledger, rubrics)
        self._to_sanitize = SanitizeQueue(ledger)
        self.adopt(spool, rubrics, sanitizers, slots)
        self._admissible: set[int] = set()  # those of them whose owners are known to have an attempt left
        self._seldom_at = float("-inf")
        self._still = False  # whether nothing happened in the last turn
        self.settled: list[Submission] = []  # what ended in the last turn

    def adopt(self, spool: Spool, rubrics: Rubrics, sanitizers: Pool, slots: Pool) -> None:
        """Go on with this spool's settings, these rubrics and these pools, of which those that are replaced must have nothing in hand."""
        self.spool, self.rubrics, self._settings = spool, rubrics, spool.settings
        self.sanitizers, self.slots = sanitizers, slots
        self.admitting.adopt(spool, rubrics)
        self._to_sanitize.adopt(spool, rubrics, sanitizers)
        self._for_slots = SlotQueue(spool, self.ledger, rubrics, slots, self.broken)
        self._space = Space(spool.layout.root, spool.settings.min_free_bytes)
        self.short_of_space = self._space.is_short()  # nothing new is taken in

    def recover(self, now: float) -> int:
        """Finish what an earlier daemon left half done (docs/recovery.md); returns how many submissions that were."""
        self.spool.remove_temporaries()
        self.spool.sync_all()
        forget_answers(self.spool.layout)
        with self.ledger.batch():
            self.ledger.release_held(now)
        unfinished = self.ledger.unfinished()
        for submission in unfinished:
            if submission.moving:
                self._place([submission], now)
        interrupted = Failed(reason=Reason(code="internal-error", message="the daemon was interrupted", blame="operator"))
        moved: list[Submission] = []
        with self.ledger.batch():
            for submission in map(self.ledger.get, (s.id for s in unfinished)):
                if submission.state in (State.SANITIZING, State.EVALUATING):
                    moved += self._again(submission, interrupted, now)
            self._to_sanitize.line_up()
        self._place(moved, now)
        return len(unfinished)

    def release(self, now: float) -> None:
        """Stop the workers and put back, unharmed and uncounted, what they had in hand."""
        self.sanitizers.close()
        self.slots.close()
        with self.ledger.batch():
            for submission in self.ledger.in_state((State.SANITIZING, State.EVALUATING), -1):
                if submission.id not in self._to_sanitize:
                    self.ledger.uncount(submission.id)
                if submission.state is State.EVALUATING:
                    self.ledger.put_back(submission.id, now, "the daemon was stopped")

    def tick(self, now: float, look: Look | None = EVERYTHING) -> bool:
        """One turn at `now` (seconds since the epoch), after a `look` at incoming/. Returns whether anything happened."""
        if seldom := not 0 <= now - self._seldom_at < SELDOM_SECONDS:
            refresh(self.spool, self.rubrics, self.broken if self._lenient else None)
            self.short_of_space = self._space.is_short()
            self._seldom_at = now
        obeyed = obey_requests(self.spool, self.ledger, now)
        marked = self.slots.collect(now)
        self._for_slots.learn(marked)
        ended = self.sanitizers.collect(now) + marked
        stopping = self.closing or self.paused is not None
        unread, unmarked = self.sanitizers.take_back(now, everything=self.closing), self.slots.take_back(now, everything=stopping)
        if any(isinstance(one.outcome, Sanitized) for one in ended):
            self.spool.keep_clean()
        listing = self.admitting.look(now, look) if look is not None else None
        if listing is not None and listing.arrivals and not stopping:
            self._expect()  # to put them in order takes a while, and so do processes to start
        self._keep_logs(ended, now)
        moved: list[Submission] = []
        with self.ledger.batch():
            for one in ended:
                if one.began is not None:
                    self.ledger.came_to(one.submission, one.began)
                moved += self._end(one.submission, one.outcome, now)
            self._take_back(unread, unmarked, now)
            self._to_sanitize.line_up()
            came = self.admitting.admit(listing, now)
            claims, changed = self._claim(now)
            moved += claims + (self._orphans(now) if seldom or not ended else [])
            started = [] if stopping else self._for_slots.begin(now)
        self._start(started, now)  # before the files are moved: no slot waits for that
        self._place(moved, now)
        moved += self._refuse(now)
        self.settled = [submission for submission in moved if submission.state in FINAL]
        if not self.closing:
            self._to_sanitize.start(now)
        self._still = not (obeyed or ended or came or changed or moved or started)
        return not self._still

    @property
    def paused(self) -> str | None:
        """Why nothing is started, if so."""
        return self.ledger.steering.paused

    @property
    def idle(self) -> bool:
        """Whether nothing is in hand, and nothing waits that could be taken."""
        counts = self.ledger.counts()
        if self.paused:
            return not self.admitting.has_more and not counts[State.SANITIZING] and not counts[State.EVALUATING]
        in_hand = sum(counts[state] for state in (State.SANITIZING, State.SANITIZED, State.EVALUATING))
        return not in_hand and not self.admitting.has_more and not self.ledger.has_ready()

    @property
    def stuck(self) -> str | None:
        """Why nothing can go on, if so."""
        for pool in (self.sanitizers, self.slots):
            states = pool.slots()
            if all(state.state == "out of service" for state in states):
                return "; ".join(f"{state.slot.name}: {state.why}" for state in states)
        return None

    @property
    def blocked(self) -> str | None:
        """Why nothing that waits can go on though there are slots, if so."""
        if not self._still or self.paused or self.ledger.counts()[State.SANITIZING]:
            return None
        return self._for_slots.blocked

    @property
    def in_hand(self) -> int:
        """How many submissions are being worked on."""
        return sum(state.submission is not None for state in (*self.sanitizers.slots(), *self.slots.slots()))

    def supplied(self, now: float) -> bool:
        """Whether nothing is lost by leaving the workers alone for a moment: where more lies ready before each of the slots, or of the
        sanitizers, than it can do meanwhile, the others wait for what these do, not for us."""
        return any(_supplied(pool, now) for pool in (self.slots, self.sanitizers))

    def patience(self, now: float) -> float:
        """Seconds until what is in hand has to be looked at again, should nothing of it end."""
        if any(ready for pool in (self.sanitizers, self.slots) for _, ready in pool.ahead(now)):
            return SHORT_SECONDS
        return _BUSY_SECONDS if self.in_hand else float("inf")

    @property
    def notices(self) -> tuple[str, ...]:
        """What its operator should know."""
        told = [f"rubric {name!r} is wrong, and its submissions wait: {why}" for name, why in self.broken.items()]
        if self.short_of_space:
            told.append("the spool's disk is nearly full (min_free_bytes): nothing new is taken until there is room")
        return tuple(told)

    # One turn, step by step

    def _claim(self, now: float) -> tuple[list[Submission], int]:
        """Sanitize ahead of the slots, but not without end. Returns also how many were next and are not what they were."""
        if self.paused or self.closing or self.short_of_space:
            return [], 0
        stuck = sum(s.rubric in self.broken for s in self.ledger.in_state((State.SANITIZED,), -1)) if self.broken else 0
        ahead = len(self._to_sanitize) + self.ledger.counts()[State.SANITIZED] - stuck
        claims: list[Submission] = []
        waiting: set[tuple[str, str]] = set()  # for the end of others by the same owner, which may be the last that they may have
        wanted, most = self._to_sanitize.room(now), max(self._for_slots.room, self._to_sanitize.ahead)
        if self._to_sanitize.together and ahead + self._to_sanitize.most > most:
            return [], 0  # a child that shares its start among many files costs a fraction of one for each: wait for a good handful
        changed = 0
        while (
            changed < _MAX_CHANGED
            and len(claims) < wanted
            and ahead + len(claims) < most
            and (ready := self.ledger.next_ready(waiting, self.broken)) is not None
        ):
            if ready.rubric in self.rubrics and undecided(self.ledger, ready, self.rubrics[ready.rubric][0].attempts):
                waiting.add((ready.rubric, ready.owner))
            elif not self.admitting.confirm(ready, now):
                changed += 1  # the ledger knows by now, and says who is next instead
            elif (claim := self.ledger.start(now, waiting, self.broken)) is not None:
                claims.append(claim.submission)
        if claims:
            self._expect()
        self._to_sanitize.add(submission.id for submission in claims)
        return claims, changed

    def _expect(self) -> None:
        self.slots.expect()
        self.sanitizers.expect()

    def _orphans(self, now: float) -> list[Submission]:
        """What waits for a slot and can never be marked: its rubric is gone, or no slot is large enough."""
        moved: list[Submission] = []
        for submission in self._for_slots.waiting():
            try:
                reason = self._for_slots.hopeless(submission)
            except ConfigError as e:
                if not self._lenient:
                    raise
                self.broken[submission.rubric] = str(e)
                continue
            if reason is not None:
                moved += self._settle(submission, State.FAILED, reason, now)
        return moved

    def _place(self, submissions: Iterable[Submission], now: float) -> None:
        self._to_sanitize.drop(place(self.spool, self.ledger, submissions, now))

    def _refuse(self, now: float) -> list[Submission]:
        """Those that were claimed and are one too many for their owner, before they cost anything."""
        new = [id for id in self._to_sanitize if id not in self._admissible]
        self._admissible = set(self._to_sanitize)
        claimed = [s for s in map(self.ledger.get, new) if s.rubric in self.rubrics]
        reasons = [(s, exhausted(self.ledger, s, self.rubrics[s.rubric][0].attempts)) for s in claimed]
        refused: list[Submission] = []
        if any(reason for _, reason in reasons):
            with self.ledger.batch():
                for submission, reason in reasons:
                    if reason is not None:
                        self._to_sanitize.drop({submission.id})
                        refused += self._settle(submission, State.REJECTED, reason, now)
            self._place(refused, now)
        return refused

    def _start(self, started: Iterable[tuple[Submission, str]], now: float) -> None:
        by_name = {state.slot.name: state.slot for state in self.slots.slots()}
        for submission, name in started:
            rubric, sha256 = self.rubrics[submission.rubric]
            limit = bounds(rubric, self._settings.limits, by_name[name])
            ticket = mark_ticket(self.spool, submission, rubric, sha256, self.ledger.inspection(submission.id), limit)
            self.slots.start([ticket], by_name[name], limit, now)

    def _keep_logs(self, ended: Iterable[Ended], now: float) -> None:
        for id, slot, _, said, _ in ended:
            if said:
                try:
                    self.spool.keep_log(self.ledger.get(id), f"--- {utc(now):%Y-%m-%dT%H:%M:%SZ} on {slot.name}\n{said}")
                except OSError as e:
                    _log.warning("%08d: what was said cannot be kept: %s", id, e)

    # How a submission ends

    def _end(self, id: int, outcome: Outcome, now: float) -> list[Submission]:
        """Act on an outcome; returns what has to move because of it."""
        submission = self.ledger.get(id)
        match outcome:
            case Sanitized(inspection=inspection) if inspection.verdict.refuses:
                return self._settle(submission, State.REJECTED, refusal(inspection.findings), now, inspection=inspection)
            case Sanitized(inspection=inspection):
                return [self.ledger.sanitized(id, msgspec.json.encode(inspection), now)]
            case Marked(evaluation=evaluation) if evaluation.rubric_sha256 != self.rubrics[submission.rubric][1]:
                return self._mark_again(id, "the rubric was changed while this was marked", now)
            case Marked(evaluation=evaluation, fingerprint=fingerprint):
                mark = grade(evaluation, self.rubrics[submission.rubric][0], utc(submission.received_at))
                same = duplicates(self.ledger, submission, fingerprint)
                return self._settle(submission, State.DONE, MARKED, now, evaluation=evaluation, grade=mark, findings=same)
            case Refused(findings=findings):
                return self._settle(submission, State.REJECTED, refusal(findings), now, findings=findings)
            case Failed(reason=Reason(code="rubric-error") as reason) if self._lenient:
                self.broken[submission.rubric] = reason.message
                return self._mark_again(id, "its rubric is wrong", now)
            case Failed(reason=Reason(code="rubric-error") as reason):
                raise UsageError(reason.message)  # stops the marking, and puts back what is in hand
            case Failed(reason=Reason(code="disk-error") as reason):
                raise InternalError(f"{reason.message}; what is in hand was put back: see to the disk, and start again")
            case Failed(reason=Reason(code="rubric-changed") as reason):
                return self._mark_again(id, reason.message, now)
            case Failed(reason=Reason(code="internal-error")):
                return self._again(submission, outcome, now)
            case Failed(reason=reason, findings=findings):
                return self._settle(submission, State.FAILED, reason, now, findings=findings)
            case Lost(began=began):
                if not began:
                    self.ledger.uncount(id)  # it costs the slot, not the submission: nobody has looked at it
                failed = lost(outcome, marking=began and submission.state is State.EVALUATING)
                return self._again(self.ledger.get(id), failed, now)

    def _take_back(self, unread: list[int], unmarked: list[int], now: float) -> None:
        """What lay ready for a worker that takes its time waits in its old place for whichever is free first. No try was made."""
        for id in (*unread, *unmarked):
            self.ledger.uncount(id)
        self._to_sanitize.put_first(unread)
        for id in unmarked:
            self.ledger.came_to(id, now)
            self.ledger.put_back(id, now, "another slot may be free sooner")

    def _mark_again(self, id: int, why: str, now: float) -> list[Submission]:
        """By the rubric as it is now; the try that was in vain does not count."""
        self._seldom_at = float("-inf")
        self.ledger.uncount(id)
        self.ledger.put_back(id, now, why)
        return []

    def _again(self, submission: Submission, failed: Failed, now: float) -> list[Submission]:
        """What went wrong is ours, as far as one can tell: try again, up to `max_attempts`, then fail it with the last reason."""
        reason = failed.reason
        if submission.tries >= self._settings.max_attempts:
            last = Reason(code=reason.code, message=f"{reason.message} (tried {submission.tries} times)", blame=reason.blame)
            return self._settle(submission, State.FAILED, last, now, findings=failed.findings)
        if submission.state is State.SANITIZING:
            self.spool.forget_clean(submission)
            self._to_sanitize.again(submission.id)
        else:
            self.ledger.put_back(submission.id, now, reason.message)
        return []

    def _settle(self, submission: Submission, state: State, reason: Reason, now: float, **parts: Any) -> list[Submission]:
        return [settle(self.ledger, submission, state, reason, now, **parts)]


def _supplied(pool: Pool, now: float) -> bool:
    ahead = pool.ahead(now)
    serving = sum(state.state in ("free", "busy") for state in pool.slots())
    return len(ahead) == serving > 0 and all(ready > 1 for _, ready in ahead)
