"""When to look at incoming/, and at what: at once where something was touched, at all of it now and then."""

from __future__ import annotations

from fifomark.core.submission import Look
from fifomark.settings import Settings
from fifomark.spool.watch import Watcher

PATIENCE = 1.0  # seconds after the last event in which a file is expected to settle
SLICE_SECONDS = 0.02  # of a sweep, which a turn makes: nothing waits for the whole of a large folder
_POLL = 1.0  # seconds between two sweeps where no event ever comes
_SHARE = 0.05  # of the time that sweeps may take, however large incoming/ is; and that slices may where there is better to do
_URGENT = 0.25  # the same where the watcher has lost sight of what happened


class Lookout:
    """Asked once a turn. An event says where to look; the sweep of everything, every `rescan_seconds`, finds what no event told of."""

    def __init__(self, watcher: Watcher, settings: Settings, now: float) -> None:
        self._watcher, self.settings = watcher, settings
        self.woken = now
        self._looked = 0.0
        self._swept, self._sliced, self._cost = 0.0, 0.0, 0.0
        self._blind = True  # something was missed, or nothing was seen yet

    def start_again(self, settings: Settings) -> None:
        """With these settings, as if nothing had been seen yet."""
        self.settings = settings
        self._swept, self._cost = 0.0, 0.0
        self._blind = True

    def due(self, now: float, unsettled: bool, *, sweeping: bool = False, busy: bool = False) -> Look | None:
        """What to look at; None for nothing. `unsettled`: whether something is still being written; `sweeping`: whether a sweep is not at
        its end, `busy`: whether there is better to do than to go on with it."""
        touched = self._watcher.touched()
        self._blind |= touched is None
        if touched or touched is None:
            self.woken = now
        seconds = SLICE_SECONDS if self._may_sweep(now, sweeping, busy) else 0.0
        again = bool(touched) or (unsettled and abs(now - self._looked) >= self._settling(now))
        if again:
            self._looked = now
        return Look(frozenset(touched or ()), again, seconds) if again or seconds else None

    def _may_sweep(self, now: float, sweeping: bool, busy: bool) -> bool:
        """Whether this turn is to go on with a look at everything, or to begin one."""
        since = abs(now - self._swept)  # a clock that was set back must not stop the sweeps
        if sweeping:
            if busy and abs(now - self._sliced) < SLICE_SECONDS / _SHARE:
                return False
        elif since >= self._rescan() or (self._blind and since >= self._cost / _URGENT):
            self._watcher.keep_up()
            self._blind = False
            self._swept = now
        else:
            return False
        self._sliced = now
        return True

    def took(self, seconds: float) -> None:
        """What the sweep has cost that `due` asked for, up to now."""
        self._cost = seconds

    def pause(self, now: float, unsettled: bool) -> float:
        """Seconds until there is something to look at though nothing happens: few while a file settles, more while one is written."""
        if self._blind:
            return max(self._cost / _URGENT - (now - self._swept), 0.0)
        return self._settling(now) if unsettled else max(self._rescan() - (now - self._swept), 0.0)

    def _settling(self, now: float) -> float:
        settling = now - self.woken < PATIENCE + self.settings.settle_seconds
        return max(self.settings.settle_seconds, 0.05) if settling else 1.0

    def _rescan(self) -> float:
        seconds = self.settings.rescan_seconds if self._watcher.watching else min(self.settings.rescan_seconds, _POLL)
        return max(seconds, self._cost / _SHARE)
