"""The watcher: wakes the loop when something happens in incoming/. It only wakes; the sweep looks."""

from __future__ import annotations

import contextlib
import logging
import os
from types import TracebackType

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer

from fifomark.spool.layout import Layout

_log = logging.getLogger(__name__)
logging.getLogger("watchdog").setLevel(logging.CRITICAL)  # its emitters complain of events that come while they are stopped
_WAKING = frozenset({"created", "modified", "moved", "deleted", "closed"})


class Watcher(FileSystemEventHandler):
    """Readable at `fileno()` once something has happened since the last `clear()`."""

    def __init__(self, layout: Layout) -> None:
        self._incoming = layout.folder("incoming")
        self._wake, self._alarm = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._observer = Observer()
        # The whole root: a rename out of a watched folder into an unwatched one delays the next event by half a second.
        self._observer.schedule(self, str(layout.root), recursive=True)

    def on_any_event(self, event: FileSystemEvent) -> None:
        if event.event_type in _WAKING and any(os.fsdecode(p).startswith(self._incoming) for p in (event.src_path, event.dest_path)):
            with contextlib.suppress(BlockingIOError):  # not looked at for 65,536 events: awake enough
                os.write(self._alarm, b"!")

    def alive(self) -> bool:
        """Whether the observer still runs; without it only the rescan finds files."""
        return self._observer.is_alive()

    def fileno(self) -> int:
        return self._wake

    def clear(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while os.read(self._wake, 65536):
                pass

    def __enter__(self) -> Watcher:
        try:
            self._observer.start()
        except OSError as e:  # no inotify here, or no watch left: the rescan finds files all the same, only later
            _log.warning("files cannot be watched (%s): incoming/ is looked at on a timer only", e)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._observer.is_alive():
            self._observer.stop()
            self._observer.join()
        os.close(self._wake)
        os.close(self._alarm)
