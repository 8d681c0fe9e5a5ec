"""What a power cut leaves: nothing that was not made to last.

The hardest reading of POSIX. Files written to and not fsynced are empty; a name that was made, moved or removed is as it was before until
every folder that it was in has been fsynced since. Of SQLite's files what was last fsynced is left, byte for byte.

`Disk` is told of each call before it happens, of a process with one thread: when the next one comes, the last one is done.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import NamedTuple

from torturing.stepping import Call

_LEDGER = "ledger.sqlite3"


class _Change(NamedTuple):
    """A change of names below the root that may still be lost, and the folders that keep it from lasting until they are fsynced."""

    kind: str  # "made", "moved", "removed"
    path: Path
    other: Path  # where it was moved to, or where we keep what was removed
    folders: set[Path]


class Disk:
    """`root` is the watched folder, `kept` an empty folder on the same file system for what has to be given back."""

    def __init__(self, root: Path, kept: Path) -> None:
        self._root, self._kept = root, kept
        self._changes: list[_Change] = []
        self._unsynced: dict[int, Path] = {}  # inodes of files with data that may be lost
        self._tables: dict[int, Path] = {}  # by inode: SQLite's files as they were fsynced last

    def about_to(self, call: Call) -> None:
        path = self._root / call.path
        match call.name:
            case "open" | "openat" | "mkdir" | "mkdirat":
                if not path.exists() and path.parent.exists():
                    self._note("made", path, path)
            case "rename" | "renameat" | "renameat2":
                self._move(path, self._root / (call.to or ""), overwriting=call.name != "renameat2")
            case "unlink" | "unlinkat":
                if path.exists():
                    self._remove(path)
            case "fsync" | "fdatasync":
                self._sync(path)
            case _:
                self._unsynced[path.stat().st_ino] = path

    def cut(self) -> None:
        """Leave below the root what lasts. Nothing that was told of may be running any more."""
        for change in reversed(self._changes):
            if change.kind == "made":
                _gone(change.path)
            elif change.other.exists() and not change.path.exists():
                change.other.rename(change.path)
        inodes = {path.stat().st_ino: path for path in self._root.rglob("*") if path.is_file()}
        for inode, name in self._unsynced.items():
            path = inodes.get(inode)
            if path is None or name.name.startswith(_LEDGER):
                continue
            times = path.stat()
            os.truncate(path, 0)
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        for path in self._root.glob(f"{_LEDGER}*"):
            synced = self._tables.get(path.stat().st_ino)
            if path.name.endswith("-shm"):
                path.unlink()  # memory, not a file
            elif path.stat().st_ino in self._unsynced:
                path.write_bytes(synced.read_bytes() if synced else b"")

    def _note(self, kind: str, path: Path, other: Path) -> None:
        self._changes.append(_Change(kind, path, other, {path.parent, other.parent} - {self._kept}))

    def _move(self, source: Path, target: Path, overwriting: bool) -> None:
        if not source.exists() or not target.parent.exists() or (target.exists() and not overwriting):
            return
        if target.exists():
            self._remove(target)
        self._note("moved", source, target)

    def _remove(self, path: Path) -> None:
        kept = self._kept / str(len(list(self._kept.iterdir())))
        os.link(path, kept)
        self._note("removed", path, kept)

    def _sync(self, path: Path) -> None:
        if path.is_dir():
            for change in self._changes:
                change.folders.discard(path)
            self._changes = [change for change in self._changes if change.folders]
        elif path.exists():
            inode = path.stat().st_ino
            self._unsynced.pop(inode, None)
            if path.name.startswith(_LEDGER):
                self._tables[inode] = self._kept / f"synced-{inode}"
                shutil.copyfile(path, self._tables[inode])


def _gone(path: Path) -> None:
    if path.is_dir():
        if not any(path.iterdir()):
            path.rmdir()
    else:
        path.unlink(missing_ok=True)
