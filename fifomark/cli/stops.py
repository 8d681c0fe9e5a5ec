"""Signals that ask us to end."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(BaseException):
    """Raised wherever we are when the signal comes, so that what is open is closed, and what is half written removed, on the way out."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def raising_stops() -> Iterator[None]:
    """Within it the first signal that asks us to end raises Stopped. One that our caller has us ignore (nohup) stays ignored."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread hears signals
        return
    before = {number: signal.signal(number, _stop) for number in _STOPS if signal.getsignal(number) is not signal.SIG_IGN}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop(number: int, frame: FrameType | None) -> None:
    for each in _STOPS:
        signal.signal(each, signal.SIG_IGN)  # tidying up is not to be stopped: `timeout` signals twice, people press Ctrl-C twice
    raise Stopped(number)
