"""What signals ask of the loop. A handler sets a flag and wakes; the loop acts on it in its own turn."""

from __future__ import annotations

import os
import signal
from types import FrameType, TracebackType

_STOPS = (signal.SIGINT, signal.SIGTERM)


class Signals:
    """Within it SIGINT and SIGTERM ask to stop, SIGINT twice at once (once more for SIGTERM would be too quick: `timeout` signals twice),
    and SIGHUP asks to read the settings again. A SIGHUP that our caller has us ignore (nohup) stays ignored; one that comes because our
    terminal is gone asks to stop."""

    def __init__(self) -> None:
        self.stopped_by: int | None = None
        self.at_once = False
        self._reload = False
        self._interrupts = 0
        self._had_terminal = _has_terminal()

    def fileno(self) -> int:
        """Readable once a signal has come since the last `clear`."""
        return self._wake

    def clear(self) -> None:
        try:
            while os.read(self._wake, 4096):
                pass
        except BlockingIOError:
            pass

    def take_reload(self) -> bool:
        """Whether settings are to be read again; asked for once, it is answered once."""
        wanted, self._reload = self._reload, False
        return wanted

    def __enter__(self) -> Signals:
        self._wake, self._alarm = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._old_alarm = signal.set_wakeup_fd(self._alarm, warn_on_full_buffer=False)
        self._before = {number: signal.signal(number, self._on_stop) for number in _STOPS}
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            self._before[signal.SIGHUP] = signal.signal(signal.SIGHUP, self._on_hang_up)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        signal.set_wakeup_fd(self._old_alarm)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        os.close(self._wake)
        os.close(self._alarm)

    def _on_stop(self, number: int, frame: FrameType | None) -> None:
        self._interrupts += number == signal.SIGINT
        self.at_once = self._interrupts > 1
        self.stopped_by = self.stopped_by or number

    def _on_hang_up(self, number: int, frame: FrameType | None) -> None:
        if self._had_terminal and not _has_terminal():
            self._on_stop(number, frame)
        else:
            self._reload = True


def _has_terminal() -> bool:
    """Whether a terminal controls this process: /dev/tty cannot be opened without one, nor after it has hung up."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True
