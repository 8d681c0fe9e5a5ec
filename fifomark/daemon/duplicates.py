"""Weights that another owner handed in before: flagged, with evidence, for a person to decide. Never a refusal."""

from __future__ import annotations

from fifomark.core.catalogue import find
from fifomark.core.clock import utc
from fifomark.core.findings import Finding
from fifomark.core.outcome import Fingerprint
from fifomark.core.submission import Submission
from fifomark.ledger.ledger import Ledger
from fifomark.marking.likeness import ALIKE, NEAR, compared


def duplicates(ledger: Ledger, submission: Submission, fingerprint: Fingerprint | None) -> tuple[Finding, ...]:
    """What is to be said of a submission that was marked, by those that were marked before it; keeps its fingerprint for those to come.

    The message is for its submitter too. Whose the other one is stands in the evidence, which they do not see.
    """
    if fingerprint is None:
        return ()
    finding = _finding(ledger, submission, fingerprint)
    ledger.fingerprints.keep(submission, fingerprint)
    return () if finding is None else (finding,)


def _finding(ledger: Ledger, submission: Submission, fingerprint: Fingerprint) -> Finding | None:
    known = ledger.fingerprints
    if (other := known.same(submission, fingerprint)) is not None:
        return _told("FM701", "another owner has handed in exactly these weights", submission, ledger.get(other))
    if (other := known.permuted(submission, fingerprint)) is not None:
        message = "another owner has handed in the same numbers, in another order or under other names"
        return _told("FM702", message, submission, ledger.get(other))
    near = known.near(submission, fingerprint) if fingerprint.sketch else []
    if not near:
        return None
    distances, likenesses = compared(fingerprint.sketch, [sketch for _, sketch in near])
    copies = ((distances <= NEAR) | (likenesses >= ALIKE)).nonzero()[0]
    if not len(copies):
        return None
    apart, alike, other = min((float(distances[i]), float(likenesses[i]), near[i][0]) for i in copies)
    how = f"; {apart:.2g} apart (to {NEAR:g} is flagged), alike by {alike:.4f} (from {ALIKE:g})"
    return _told("FM703", "another owner has handed in almost the same weights", submission, ledger.get(other), how)


def _told(code: str, message: str, submission: Submission, other: Submission, how: str = "") -> Finding:
    """Which of the two is marked first is a matter of slots; who came first the evidence says."""
    received = f"{'after' if other.id > submission.id else 'before'} this one, {utc(other.received_at):%Y-%m-%d %H:%M:%S} UTC"
    return find(code, "weights", message, evidence=f"submission {other.id:08d} of {other.owner}, received {received}{how}")
