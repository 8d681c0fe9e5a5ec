"""Telling a slot that breaks what it is given from submissions that break wherever they run."""

from __future__ import annotations

_REMEMBERED = 1000  # submissions


class Losses:
    """Who was lost where. A submission that was lost in two places is at fault itself, and then speaks against neither.

    So nobody can take slots out of service by handing in models that kill their worker, as long as these are tried in more than one place.
    """

    def __init__(self) -> None:
        self._in_a_row: dict[str, set[int]] = {}
        self._places: dict[int, set[str]] = {}

    def lost(self, slot: str, submission: int) -> None:
        places = self._places.setdefault(submission, set())
        places.add(slot)
        if len(places) == 1:
            self._in_a_row.setdefault(slot, set()).add(submission)
        else:
            for place in places:
                self._in_a_row.get(place, set()).discard(submission)
        while len(self._places) > _REMEMBERED:
            del self._places[next(iter(self._places))]

    def ended_well(self, slot: str) -> None:
        self._in_a_row.pop(slot, None)

    def against(self, slot: str) -> int:
        """How many submissions were lost there and nowhere else, since one last came to its end there."""
        return len(self._in_a_row.get(slot, ()))
