"""Trying out on the spool itself what its file system can do. Each leaves nothing behind; OSError where nothing can be written there."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import tempfile
import time
from collections.abc import Iterator

from fifomark.spool.layout import FOLDERS, Layout
from fifomark.spool.moves import rename
from fifomark.spool.watch import new_watcher


def elsewhere(layout: Layout) -> list[str]:
    """The folders that lie on another file system than the spool: no file can be renamed into them."""
    device = os.stat(layout.root).st_dev
    return [folder for folder in FOLDERS if os.path.isdir(layout.folder(folder)) and os.stat(layout.folder(folder)).st_dev != device]


def open_to_all(layout: Layout) -> list[str]:
    """The folders that everybody may write to, incoming/ aside, which is for that."""
    folders = {".": str(layout.root), **{folder: layout.folder(folder) for folder in FOLDERS if folder != "incoming"}}
    return [name for name, path in folders.items() if os.path.isdir(path) and os.stat(path).st_mode & stat.S_IWOTH]


def never_overwrites(layout: Layout) -> bool:
    """Whether a rename onto a file is refused."""
    with _scratch(layout) as folder:
        source, target = (os.path.join(folder, name) for name in ("a", "b"))
        for path in (source, target):
            with open(path, "x"):
                pass
        try:
            rename(source, target)
        except FileExistsError:
            return True
        return False


def has_leases(layout: Layout) -> bool:
    """Whether the kernel tells us that somebody still writes to a file."""
    with _scratch(layout) as folder, open(os.path.join(folder, "a"), "w+") as writing:
        with open(writing.name, "rb") as reading:
            try:
                fcntl.fcntl(reading.fileno(), fcntl.F_SETLEASE, fcntl.F_RDLCK)
            except BlockingIOError:
                return True
            except OSError:
                return False
        return False  # granted, though it is open for writing


def clock_offset(layout: Layout) -> float:
    """Seconds by which the clock of the file system is ahead of ours."""
    with _scratch(layout) as folder:
        path = os.path.join(folder, "a")
        before = time.time()
        with open(path, "x"):
            pass
        seen = os.stat(path).st_mtime
        return 0.0 if before - 1 <= seen <= time.time() + 1 else seen - before


def can_be_watched(layout: Layout) -> bool:
    """Whether the kernel tells of what happens in incoming/; why not, is told in the log."""
    with new_watcher(layout, "inotify") as watcher:
        return watcher.watching


@contextlib.contextmanager
def _scratch(layout: Layout) -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix=".doctor-", suffix=".tmp", dir=layout.folder("control")) as folder:
        yield folder
