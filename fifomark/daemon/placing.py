"""Letting the files follow the states: the second half of every move, whoever decided on it."""

from __future__ import annotations

import errno
from collections.abc import Iterable

from fifomark.core.states import FINAL, State
from fifomark.core.submission import Submission
from fifomark.ledger.ledger import Ledger
from fifomark.spool.spool import Spool

_BROKEN = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)  # of a disk: no file is to blame for these


def _can_stay(spool: Spool, submission: Submission) -> bool:
    """Whether nothing of a submission has moved that cannot be moved now, so that it may be left where it is."""
    return submission.state is State.SANITIZING or (submission.state is State.QUEUED and not spool.is_back(submission))


def place(spool: Spool, ledger: Ledger, submissions: Iterable[Submission], now: float) -> set[int]:
    """Move the files, make the moves last, and say so in the ledger; the ids of those whose file could not be taken, or had gone."""
    placed: list[tuple[Submission, bool]] = []
    stuck: list[tuple[Submission, OSError]] = []
    submissions = list(submissions)
    reports = ((submission, ledger.report(submission.id)) for submission in submissions if submission.state in FINAL)
    spool.publish((submission, report) for submission, report in reports if report is not None)
    for submission in submissions:
        try:
            placed.append((submission, spool.place(submission)))
        except OSError as e:
            if e.errno in _BROKEN or not _can_stay(spool, submission):
                raise
            stuck.append((submission, e))  # not ours to move: another's folder, another file system, another's file in the way
    if not placed and not stuck:
        return set()
    spool.sync()
    with ledger.batch():
        for submission, error in stuck:
            if submission.state is State.QUEUED:
                ledger.steering.undo_retry(submission.id, now)
            else:
                ledger.hold(submission.id, f"it cannot be taken from incoming/: {error.strerror}", now)
        for submission, found in placed:
            if not found and submission.state is State.SANITIZING:
                ledger.move(submission.id, State.WITHDRAWN, now, note="its file was deleted before it could be taken")
            if submission.state is State.QUEUED:
                ledger.steering.start_over(submission.id)
            ledger.in_place(submission.id)
    return {submission.id for submission, _ in stuck} | {submission.id for submission, found in placed if not found}
