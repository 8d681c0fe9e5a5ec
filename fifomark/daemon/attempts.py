"""Whether an owner may have one more attempt, by the rubric's [attempts] and what the ledger says of their earlier submissions."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, time, timedelta
from functools import partial
from typing import NamedTuple

from fifomark.core.outcome import Reason
from fifomark.core.submission import Submission
from fifomark.ledger.attempts import ALWAYS, Span
from fifomark.ledger.ledger import Ledger
from fifomark.marking.term_checks import zone
from fifomark.marking.terms import Attempts
from fifomark.reports.feedback import AttemptsUsed


class Quota(NamedTuple):
    """A limit that holds for a submission: so many in `span`. `when` names the day, and `until` when the next one begins (None: never)."""

    most: int
    span: Span
    when: str = ""
    until: str | None = None


def quotas(rules: Attempts, received_at: float) -> Iterator[Quota]:
    """The limits for what was received at `received_at`; a total that is used up is told before a day."""
    if rules.max_total is not None:
        yield Quota(rules.max_total, ALWAYS)
    if rules.max_per_day is not None:
        span, start, end = _day(rules, received_at)
        yield Quota(rules.max_per_day, span, f" of {start:%Y-%m-%d} ({rules.day_zone})", f"{end:%Y-%m-%d %H:%M} ({rules.day_zone})")


def exhausted(ledger: Ledger, submission: Submission, rules: Attempts) -> Reason | None:
    """Why this submission is one too many; None where it is not."""
    for quota in quotas(rules, submission.received_at):
        used = _used(ledger, submission, rules, quota)
        if used >= quota.most:
            then = f"submit it again from {quota.until} on" if quota.until else "there are no more"
            message = f"{used} of {quota.most} attempts{quota.when} are used; {then}"
            return Reason(code="attempts-exhausted", message=message, blame="submitter")
    return None


def used(ledger: Ledger, submission: Submission, rules: Attempts) -> AttemptsUsed:
    """What the owner of this submission has used up, this one included where its ending counts."""
    counted = partial(ledger.attempts.used, submission.rubric, submission.owner, rules.counts)
    return AttemptsUsed(
        used=counted(),
        max_total=rules.max_total,
        used_that_day=counted(received=_day(rules, submission.received_at)[0]),
        max_per_day=rules.max_per_day,
    )


def undecided(ledger: Ledger, submission: Submission, rules: Attempts) -> bool:
    """Whether it depends on what is still in hand if there is an attempt left for this one: then it has to wait."""
    for quota in quotas(rules, submission.received_at):
        left = quota.most - _used(ledger, submission, rules, quota)
        if 0 < left <= ledger.attempts.in_hand(submission.rubric, submission.owner, received=quota.span):
            return True
    return False


def _used(ledger: Ledger, submission: Submission, rules: Attempts, quota: Quota) -> int:
    return ledger.attempts.used(submission.rubric, submission.owner, rules.counts, apart_from=submission.id, received=quota.span)


def _day(rules: Attempts, received_at: float) -> tuple[Span, datetime, datetime]:
    where = zone(rules.day_zone)
    day = datetime.fromtimestamp(received_at, where).date()
    start, end = (datetime.combine(date, time(), where) for date in (day, day + timedelta(days=1)))
    return Span(start.timestamp(), end.timestamp()), start, end
