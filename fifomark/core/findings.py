"""What the sanitizer and the marking saw, how bad each is, and what they add up to."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from fifomark.core.record import Record

MAX_TEXT = 2000  # characters of a message or of evidence; a hostile file must not blow up a report


class Level(StrEnum):
    NOTE = "note"
    WARNING = "warning"
    INVALID = "invalid"
    UNSAFE = "unsafe"

    @property
    def rank(self) -> int:
        return _RANKS[self]


_RANKS = {level: rank for rank, level in enumerate(Level)}


class Verdict(StrEnum):
    CLEAN = "clean"
    FLAGGED = "flagged"
    INVALID = "invalid"
    UNSAFE = "unsafe"

    @property
    def refuses(self) -> bool:
        return self in (Verdict.INVALID, Verdict.UNSAFE)


_VERDICTS = {Level.NOTE: Verdict.CLEAN, Level.WARNING: Verdict.FLAGGED, Level.INVALID: Verdict.INVALID, Level.UNSAFE: Verdict.UNSAFE}


class Finding(Record):
    """One thing seen. `where` is a record, a pickle or a tensor of the file; `advice` is the submitter's next step."""

    code: str
    level: Level
    where: str
    message: str
    evidence: str | None
    advice: str


def verdict_of(findings: Iterable[Finding]) -> Verdict:
    """The highest level decides; nothing but notes is clean."""
    worst = max((finding.level for finding in findings), key=lambda level: level.rank, default=Level.NOTE)
    return _VERDICTS[worst]
