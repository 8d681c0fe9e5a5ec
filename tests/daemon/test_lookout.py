from __future__ import annotations

from fifomark.core.submission import Key, Look
from fifomark.daemon.lookout import SLICE_SECONDS, Lookout
from fifomark.settings import Settings

SETTINGS = Settings(schema="fifomark.settings/1", rescan_seconds=5.0, settle_seconds=0.2)
A: Key = ("", "a.pt")
SLICE = Look(seconds=SLICE_SECONDS)


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
    assert made.due(100.0, unsettled=False) == SLICE
    return made, watcher


def test_nothing_is_looked_at_until_something_is_touched_or_it_is_time() -> None:
    made, watcher = lookout()
    assert made.due(101.0, unsettled=False) is None
    assert made.pause(101.0, unsettled=False) == 4.0
    watcher.says = {A}
    assert made.due(102.0, unsettled=False) == Look(frozenset({A}), again=True)
    assert made.due(102.1, unsettled=False) is None
    assert made.due(105.0, unsettled=False) == SLICE


def test_what_settles_is_looked_at_soon_and_what_is_long_being_written_once_a_second() -> None:
    made, watcher = lookout()
    watcher.says = {A}
    made.due(101.0, unsettled=False)
    assert made.due(101.1, unsettled=True) is None
    assert made.due(101.2, unsettled=True) == Look(again=True)
    assert made.due(103.0, unsettled=True) == Look(again=True)
    assert made.due(103.5, unsettled=True) is None
    assert made.pause(103.5, unsettled=True) == 1.0


def test_when_events_were_lost_everything_is_looked_at_at_once() -> None:
    made, watcher = lookout()
    watcher.says = None
    assert made.due(100.5, unsettled=False) == SLICE


def test_sweeps_of_a_large_folder_take_no_more_than_a_share_of_the_time() -> None:
    made, watcher = lookout()
    made.took(2.0)
    watcher.says = None
    assert made.due(101.0, unsettled=False) is None
    assert made.pause(101.0, unsettled=False) == 7.0
    assert made.due(108.0, unsettled=False) == SLICE
    assert made.due(147.0, unsettled=False) is None
    assert made.due(148.0, unsettled=False) == SLICE


def test_a_clock_that_is_set_back_does_not_stop_the_sweeps() -> None:
    made, _ = lookout()
    assert made.due(10.0, unsettled=False) == SLICE


def test_where_nothing_tells_of_files_everything_is_looked_at_every_second() -> None:
    made, watcher = lookout()
    watcher.watching = False
    assert made.due(100.9, unsettled=False) is None
    assert made.due(101.0, unsettled=False) == SLICE


def test_a_sweep_that_is_not_at_its_end_goes_on_in_the_next_turn() -> None:
    made, _ = lookout()
    made.took(0.02)
    assert made.due(100.02, unsettled=False, sweeping=True) == SLICE
    made.took(0.03)
    assert made.due(100.04, unsettled=False) is None


def test_where_there_is_better_to_do_it_goes_on_for_a_twentieth_of_the_time() -> None:
    made, watcher = lookout()
    assert made.due(100.1, unsettled=False, sweeping=True, busy=True) is None
    assert made.due(100.45, unsettled=False, sweeping=True, busy=True) == SLICE
    assert made.due(100.5, unsettled=False, sweeping=True, busy=True) is None
    watcher.says = {A}
    assert made.due(100.6, unsettled=False, sweeping=True, busy=True) == Look(frozenset({A}), again=True)
    assert made.due(100.6, unsettled=False, sweeping=True) == SLICE


def test_what_was_lost_during_a_sweep_is_for_another() -> None:
    made, watcher = lookout()
    watcher.says = None
    assert made.due(100.02, unsettled=False, sweeping=True) == SLICE
    made.took(0.04)
    assert made.due(100.1, unsettled=False) is None
    assert made.due(100.2, unsettled=False) == SLICE


def test_after_a_reload_everything_is_looked_at_anew() -> None:
    made, _ = lookout()
    made.took(50.0)
    made.start_again(SETTINGS)
    assert made.due(100.1, unsettled=False, busy=True) == SLICE
