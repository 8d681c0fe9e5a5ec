"""The ledger's history, told in the log as it is committed: one line for each move of a submission."""

from __future__ import annotations

import logging

from fifomark.core.states import FINAL
from fifomark.core.text import shown
from fifomark.ledger.history import Move
from fifomark.ledger.ledger import Ledger

_log = logging.getLogger(__name__)


class Telling:
    """Tells what happens from now on."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger, self._told = ledger, ledger.history.last()

    def tell(self) -> None:
        """Every move since the last time, unless nobody listens."""
        if not _log.isEnabledFor(logging.INFO):
            return
        for move in self._ledger.history.after(self._told):
            _log.info("%08d %s: %s", move.submission, shown(move.name), _words(move), extra={"fields": _fields(move)})
            self._told = move.number


def _ended(move: Move) -> bool:
    """Whether this is how it ended, and stands so."""
    return move.state in FINAL and move.stands is move.state and move.note == move.reason


def _words(move: Move) -> str:
    if not _ended(move):
        return str(move.state) + (f" ({move.note})" if move.note else "")
    points = None if move.points is None or move.points_possible is None else f"{move.points:g}/{move.points_possible:g}"
    why = None if move.note == "marked" else move.message or move.note
    return " ".join(shown(word, 300) for word in (str(move.state), move.verdict, move.family, points, why) if word)


def _fields(move: Move) -> dict[str, object]:
    fields: dict[str, object] = {
        "event": "move",
        "id": move.submission,
        "name": shown(move.name, 1100),
        "owner": move.owner,
        "rubric": move.rubric,
        "attempt": move.attempt,
        "state": str(move.state),
        "reason": move.note,
    }
    if _ended(move):
        fields |= {"verdict": move.verdict, "family": move.family, "points": move.points, "points_possible": move.points_possible}
        fields |= {"reason_message": move.message}
    return fields
