"""What waits in incoming/: the listing is the truth, an event of the watcher only says when to look."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Collection

from fifomark.core.submission import Arrival, Identity, Kind, Listing
from fifomark.spool.moves import opened_folder

# Names that uploaders use while they write. Never looked at.
UPLOAD_SUFFIXES = (".part", ".tmp", ".crdownload", ".filepart", ".partial", ".download", ".swp", ".upload")
_KINDS: tuple[tuple[int, Kind], ...] = (
    (stat.S_IFREG, "file"),
    (stat.S_IFLNK, "link"),
    (stat.S_IFDIR, "folder"),
    (stat.S_IFIFO, "pipe"),
    (stat.S_IFSOCK, "socket"),
)


class Intake:
    """Lists incoming/ and tells what is settled: unchanged for `settle` seconds, and open for writing by nobody."""

    def __init__(self, incoming: str, settle: float) -> None:
        self._incoming = incoming
        self._settle = settle
        self._seen: dict[tuple[str, str], tuple[Identity, int, float]] = {}
        self._settled: dict[tuple[str, str], tuple[Identity, int]] = {}

    def sweep(self, now: float, rubrics: Collection[str], untouched: Collection[str] = ()) -> Listing:
        """incoming/ as it is at `now` (seconds since the epoch); a subfolder that is named as a rubric is looked into."""
        arrivals: list[Arrival] = []
        unsettled: set[tuple[str, str]] = set()
        root = _entries(self._incoming)
        # lstat has said that they are folders: a link in incoming/ is never looked through.
        subfolders = sorted(name for name, status in root if name in rubrics and stat.S_ISDIR(status.st_mode))
        for folder, entries in (("", root), *((folder, self._listed(folder)) for folder in subfolders)):
            for name, status in entries:
                if is_passed_over(name) or (not folder and stat.S_ISDIR(status.st_mode) and (name in rubrics or name in untouched)):
                    continue
                arrival = Arrival(folder=folder, name=name, kind=_kind(status), identity=_identity(status))
                if self._is_settled(arrival, status.st_ctime_ns, now):
                    arrivals.append(arrival)
                else:
                    unsettled.add((folder, name))
        present = {(a.folder, a.name) for a in arrivals} | unsettled
        self._seen = {key: seen for key, seen in self._seen.items() if key in present}
        self._settled = {key: seen for key, seen in self._settled.items() if key in present}
        return Listing(arrivals=tuple(arrivals), unsettled=frozenset(unsettled))

    def _listed(self, folder: str) -> list[tuple[str, os.stat_result]]:
        """What lies in a subfolder of incoming/, which may go, become a link, or be closed to us at any time."""
        try:
            with opened_folder(os.path.join(self._incoming, folder)) as fd:
                return _entries(fd)
        except OSError:
            return []

    def _is_settled(self, arrival: Arrival, ctime_ns: int, now: float) -> bool:
        key, version = (arrival.folder, arrival.name), (arrival.identity, ctime_ns)
        if self._settled.get(key) == version:
            return True
        identity, seen_ctime, since = self._seen.get(key, (None, 0, now))
        if (identity, seen_ctime) != version:
            self._seen[key] = (*version, now)
            since = now
        # ctime moves with every write and cannot be set back; where its clock is not ours (a network file system), watching decides.
        rested = max(now - since, now - ctime_ns / 1e9)
        if rested < self._settle:
            return False
        if arrival.kind == "file" and _has_writer(os.path.join(self._incoming, *key)):
            return False
        self._settled[key] = version
        return True


def is_passed_over(name: str) -> bool:
    """Whether a file of this name is never looked at: a hidden one, or one that an uploader is still writing."""
    return name.startswith(".") or name.lower().endswith(UPLOAD_SUFFIXES)


def uploads(incoming: str) -> list[str]:
    """Names in incoming/ that an uploader is still writing under a temporary name."""
    if not os.path.isdir(incoming):
        return []
    return [name for name, _ in _entries(incoming) if not name.startswith(".") and name.lower().endswith(UPLOAD_SUFFIXES)]


def _entries(folder: str | int) -> list[tuple[str, os.stat_result]]:
    found = []
    with os.scandir(folder) as listing:
        for entry in listing:
            with contextlib.suppress(FileNotFoundError):  # withdrawn between the listing and the look
                found.append((entry.name, entry.stat(follow_symlinks=False)))
    return found


def _kind(status: os.stat_result) -> Kind:
    mode = stat.S_IFMT(status.st_mode)
    if mode == stat.S_IFREG and status.st_nlink > 1:
        return "hard link"
    return next((kind for bits, kind in _KINDS if bits == mode), "device")


def _identity(status: os.stat_result) -> Identity:
    """As the ledger can keep it: in signed 64 bits, where file systems have unsigned numbers and times of any year."""
    largest = (1 << 63) - 1
    return Identity(
        device=_signed(status.st_dev),
        inode=_signed(status.st_ino),
        size=status.st_size,
        mtime_ns=max(-largest, min(status.st_mtime_ns, largest)),
    )


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


def _has_writer(path: str) -> bool:
    """Whether someone has the file open for writing: then the kernel refuses a read lease (fcntl(2), F_SETLEASE).

    Where leases cannot be had (another owner's file, a network file system) the settle time alone decides.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False  # unreadable or gone: the claim will say so
    try:
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError as e:
        return e.errno == errno.EAGAIN
    finally:
        os.close(fd)
    return False
