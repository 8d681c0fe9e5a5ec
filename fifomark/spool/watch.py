"""The watcher: wakes the loop when something happens in incoming/, and says where. It only wakes; the intake looks."""

from __future__ import annotations

import contextlib
import logging
import os
import stat
import threading
from collections.abc import Iterator
from types import TracebackType
from typing import Literal

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver, ObservedWatch

from fifomark.core.submission import Key
from fifomark.spool.layout import REQUEST, Layout
from fifomark.spool.mounts import over_network

_log = logging.getLogger(__name__)
# Its emitters complain of events that come while they are stopped. What it says of an overflow is heard below, and said nowhere else.
_watchdogs = logging.getLogger("watchdog")
_watchdogs.propagate = False
_WAKING = frozenset({"created", "modified", "moved", "deleted", "closed"})
MAX_TOUCHED = 4096  # names; beyond them a sweep is as quick, and surer: so many at once are more than the kernel may have told of


class Watcher(FileSystemEventHandler):
    """Readable at `fileno()` once something has happened since the last `touched()`.

    With `watching` false (a network file system, whose events reach only the machine that made them) it never is.
    """

    def __init__(self, layout: Layout, *, watching: bool = True) -> None:
        self._incoming, self._control = layout.folder("incoming"), layout.folder("control")
        self._wake, self._alarm = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._lock = threading.Lock()
        self._touched: set[Key] | None = None  # None: anything may have changed
        self.watching = watching
        self._layout = layout
        self._observer: BaseObserver | None = None
        self._watched: dict[str, tuple[int, ObservedWatch]] = {}  # folders, each by its inode
        self._ears = _Overflow(self)

    def on_any_event(self, event: FileSystemEvent) -> None:
        if event.event_type in _WAKING and not (event.is_directory and event.event_type == "modified"):  # its content tells of itself
            for raw in (event.src_path, event.dest_path):
                path = os.fsdecode(raw)
                if path.startswith(self._incoming):
                    self._touch(path, event.is_directory)
                elif path.endswith(REQUEST):
                    self._ring()

    def _touch(self, path: str, is_folder: bool) -> None:
        parts = os.path.relpath(path, self._incoming).split(os.sep)
        with self._lock:
            if is_folder or len(parts) > 2 or (self._touched is not None and len(self._touched) >= MAX_TOUCHED):
                self._touched = None
            elif self._touched is not None:
                self._touched.add(("", parts[0]) if len(parts) == 1 else (parts[0], parts[1]))
        self._ring()

    def overflowed(self) -> None:
        """The kernel had more to tell than it keeps: what was missed is for a sweep to find."""
        with self._lock:
            self._touched = None
        self._ring()

    def _ring(self) -> None:
        with contextlib.suppress(BlockingIOError):  # not looked at for 65,536 events: awake enough
            os.write(self._alarm, b"!")

    def touched(self) -> set[Key] | None:
        """What has been touched since the last call; None where nobody can say, and all has to be looked at."""
        with contextlib.suppress(BlockingIOError):
            while os.read(self._wake, 65536):
                pass
        with self._lock:
            touched, self._touched = self._touched, set()
        return touched

    def fileno(self) -> int:
        return self._wake

    def keep_up(self) -> None:
        """Watch again where watching has stopped; and what is new, or in the place of what was there: incoming/, folders of rubrics."""
        if not self.watching:
            return
        try:
            if self._observer is None or not self._observer.is_alive():
                self._start()
            self._follow()
        except OSError as e:  # no inotify here, or no watch left: the rescan finds files all the same, only later
            _log.warning("files cannot be watched (%s): incoming/ is looked at on a timer only", e)
            self._stop()
            self.watching = False

    def _start(self) -> None:
        self._stop()
        observer = Observer()
        observer.start()
        self._observer = observer
        observer.schedule(self, self._control)

    def _follow(self) -> None:
        """Watch just the folders that are looked into, one by one: what else lies in incoming/ may be as deep as its owner likes."""
        assert self._observer is not None
        wanted = {path: inode for path in self._folders() if (inode := _inode(path)) is not None}
        for path, (inode, watch) in list(self._watched.items()):
            if wanted.get(path) != inode:
                del self._watched[path]
                with contextlib.suppress(KeyError):  # watchdog has dropped it together with the folder
                    self._observer.unschedule(watch)
        for path in wanted.keys() - self._watched.keys():
            with contextlib.suppress(FileNotFoundError):
                self._watched[path] = (wanted[path], self._observer.schedule(self, path))
                self.overflowed()  # what came before is for a sweep

    def _folders(self) -> Iterator[str]:
        yield self._incoming
        for rubric in self._layout.rubrics():
            yield os.path.join(self._incoming, rubric)

    def _stop(self) -> None:
        if self._observer is not None and self._observer.is_alive():
            self._observer.stop()
            self._observer.join()
        self._observer = None
        self._watched.clear()

    def __enter__(self) -> Watcher:
        _watchdogs.addHandler(self._ears)
        self.keep_up()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop()
        _watchdogs.removeHandler(self._ears)
        os.close(self._wake)
        os.close(self._alarm)


class _Overflow(logging.Handler):
    """watchdog rebuilds its watches after an overflow and tells nobody but its log."""

    def __init__(self, watcher: Watcher) -> None:
        super().__init__(logging.WARNING)
        self._watcher = watcher

    def emit(self, record: logging.LogRecord) -> None:
        if "overflow" in record.getMessage().lower():
            self._watcher.overflowed()


def new_watcher(layout: Layout, watch: Literal["auto", "inotify", "polling"]) -> Watcher:
    """A watcher of the spool, as the settings have it."""
    return Watcher(layout, watching=watch == "inotify" or (watch == "auto" and not over_network(layout.folder("incoming"))))


def _inode(path: str) -> int | None:
    """Of a folder; None where there is none, or a link to one."""
    with contextlib.suppress(OSError):
        status = os.lstat(path)
        return status.st_ino if stat.S_ISDIR(status.st_mode) else None
    return None
