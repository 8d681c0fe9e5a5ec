"""Which of an owner's marks stands: for rankings and gradebooks alike."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal

from fifomark.core.report import Report

Keep = Literal["best", "last", "first"]
Merit = Callable[[Report], float | None]  # more is better; None: nothing to compare by, which is worse than anything


def points(report: Report) -> float | None:
    return report.grade.points if report.grade else None


def standing(reports: Iterable[Report], keep: Keep = "best", merit: Merit = points) -> list[Report]:
    """One report for each owner, of those that were marked; the best by `merit` come first, of equal ones the earlier.

    `keep` goes by when a file was received. What was refused or failed is no mark: an earlier one may be the last.
    """
    marked: dict[str, list[Report]] = {}
    for report in sorted((report for report in reports if report.grade is not None), key=_received):
        marked.setdefault(report.submission.owner, []).append(report)
    chosen = [_kept(of_owner, keep, merit) for of_owner in marked.values()]
    return sorted(sorted(chosen, key=_received), key=lambda report: _worth(merit(report)), reverse=True)  # which keeps equal ones in order


def _kept(of_owner: list[Report], keep: Keep, merit: Merit) -> Report:
    match keep:
        case "first":
            return of_owner[0]
        case "last":
            return of_owner[-1]
        case "best":
            return max(of_owner, key=lambda report: _worth(merit(report)))  # the first of equal ones


def _worth(value: float | None) -> tuple[bool, float]:
    return value is not None, value or 0.0


def _received(report: Report) -> tuple[float, int]:
    return report.submission.received_at.timestamp(), report.id
