from __future__ import annotations

from fifomark.core.submission import EVERYTHING, Key, Look
from fifomark.daemon.lookout import Lookout
from fifomark.settings import Settings

SETTINGS = Settings(schema="fifomark.settings/1", rescan_seconds=5.0, settle_seconds=0.2)
A: Key = ("", "a.pt")


class Watching:
    """A watcher that says what the test lets it say."""

    def __init__(self) -> None:
        self.says: set[Key] | None = set()
        self.watching = True

    def touched(self) -> set[Key] | None:
        said, self.says = self.says, set()
        return said

    def keep_up(self) -> None:
        pass


def lookout() -> tuple[Lookout, Watching]:
    watcher = Watching()
    made = Lookout(watcher, SETTINGS, 100.0)  # type: ignore[arg-type]
    assert made.due(100.0, unsettled=False) == EVERYTHING
    return made, watcher


def test_nothing_is_looked_at_until_something_is_touched_or_it_is_time() -> None:
    made, watcher = lookout()
    assert made.due(101.0, unsettled=False) is None
    assert made.pause(101.0, unsettled=False) == 4.0
    watcher.says = {A}
    assert made.due(102.0, unsettled=False) == Look(False, frozenset({A}))
    assert made.due(102.1, unsettled=False) is None
    assert made.due(105.0, unsettled=False) == EVERYTHING


def test_what_settles_is_looked_at_soon_and_what_is_long_being_written_once_a_second() -> None:
    made, watcher = lookout()
    watcher.says = {A}
    made.due(101.0, unsettled=False)
    assert made.due(101.1, unsettled=True) is None
    assert made.due(101.2, unsettled=True) == Look(False)
    assert made.due(103.0, unsettled=True) == Look(False)
    assert made.due(103.5, unsettled=True) is None
    assert made.pause(103.5, unsettled=True) == 1.0


def test_when_events_were_lost_everything_is_looked_at_at_once() -> None:
    made, watcher = lookout()
    watcher.says = None
    assert made.due(100.5, unsettled=False) == EVERYTHING


def test_sweeps_of_a_large_folder_take_no_more_than_a_share_of_the_time() -> None:
    made, watcher = lookout()
    made.took(2.0)
    watcher.says = None
    assert made.due(101.0, unsettled=False) is None
    assert made.pause(101.0, unsettled=False) == 7.0
    assert made.due(108.0, unsettled=False) == EVERYTHING
    assert made.due(147.0, unsettled=False) is None
    assert made.due(148.0, unsettled=False) == EVERYTHING


def test_a_clock_that_is_set_back_does_not_stop_the_sweeps() -> None:
    made, _ = lookout()
    assert made.due(10.0, unsettled=False) == EVERYTHING


def test_where_nothing_tells_of_files_everything_is_looked_at_every_second() -> None:
    made, watcher = lookout()
    watcher.watching = False
    assert made.due(100.9, unsettled=False) is None
    assert made.due(101.0, unsettled=False) == EVERYTHING
