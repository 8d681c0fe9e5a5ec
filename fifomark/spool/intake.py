"""What waits in incoming/: what lies there is the truth, an event of the watcher only says when and where to look."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Collection, Iterable

from fifomark.core.submission import Arrival, Identity, Key, Kind, Listing
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
    """Looks at incoming/ and tells what has settled: unchanged for `settle` seconds, and open for writing by nobody.

    A look costs what has changed, not what waits: a file that was told of is told of again only when it has changed.
    """

    def __init__(self, incoming: str, settle: float) -> None:
        self._incoming = incoming
        self._settle = settle
        self._settled: dict[Key, bytes] = {}  # what was told of, each as it was then
        self._resting: dict[Key, tuple[bytes, float]] = {}  # what is not settled: as it was seen, and since when

    def sweep(self, now: float, rubrics: Collection[str], waiting: Iterable[Key] = (), untouched: Collection[str] = ()) -> Listing:
        """All of incoming/ at `now` (seconds since the epoch); a subfolder that is named as a rubric is looked into.

        What is `waiting` and was not found is gone.
        """
        arrivals: list[Arrival] = []
        present: set[Key] = set()
        root = _entries(self._incoming)
        # lstat has said that they are folders: a link in incoming/ is never looked through.
        subfolders = sorted(name for name, status in root if name in rubrics and stat.S_ISDIR(status.st_mode))
        for folder, entries in (("", root), *((folder, self._listed(folder)) for folder in subfolders)):
            for name, status in entries:
                if is_passed_over(name) or (not folder and stat.S_ISDIR(status.st_mode) and (name in rubrics or name in untouched)):
                    continue
                present.add((folder, name))
                if arrival := self._news((folder, name), status, now):
                    arrivals.append(arrival)
        self._settled = {key: version for key, version in self._settled.items() if key in present}
        self._resting = {key: seen for key, seen in self._resting.items() if key in present}
        return Listing(
            arrivals=tuple(arrivals),
            unsettled=frozenset(self._resting),
            gone=frozenset(key for key in waiting if key not in present),
        )

    def look(self, now: float, keys: Iterable[Key], rubrics: Collection[str], untouched: Collection[str] = ()) -> Listing:
        """As `sweep`, of `keys` and of what was not settled at the last look."""
        arrivals: list[Arrival] = []
        gone: set[Key] = set()
        for key in {*keys, *self._resting}:
            folder, name = key
            if is_passed_over(name) or (folder and folder not in rubrics):
                continue
            status = self._status(key)
            if status is None:
                gone.add(key)
                self._settled.pop(key, None)
                self._resting.pop(key, None)
            elif not folder and stat.S_ISDIR(status.st_mode) and (name in rubrics or name in untouched):
                continue
            elif arrival := self._news(key, status, now):
                arrivals.append(arrival)
        return Listing(arrivals=tuple(arrivals), unsettled=frozenset(self._resting), gone=frozenset(gone))

    def _listed(self, folder: str) -> list[tuple[str, os.stat_result]]:
        """What lies in a subfolder of incoming/, which may go, become a link, or be closed to us at any time."""
        try:
            with opened_folder(os.path.join(self._incoming, folder)) as fd:
                return _entries(fd)
        except OSError:
            return []

    def _status(self, key: Key) -> os.stat_result | None:
        """None where nothing is there, or nothing that can be reached without following a link."""
        folder, name = key
        try:
            with opened_folder(os.path.join(self._incoming, folder)) as fd:
                return os.stat(name, dir_fd=fd, follow_symlinks=False)
        except OSError:
            return None

    def _news(self, key: Key, status: os.stat_result, now: float) -> Arrival | None:
        """The arrival of what has just settled; None for what has not, and for what was told of before."""
        arrival = arrival_of(key, status)
        version = _version(arrival.identity, status.st_ctime_ns)
        if self._settled.get(key) == version or not self._has_settled(arrival, version, status.st_ctime_ns, now):
            return None
        self._settled[key] = version
        return arrival

    def _has_settled(self, arrival: Arrival, version: bytes, ctime_ns: int, now: float) -> bool:
        key = (arrival.folder, arrival.name)
        seen, since = self._resting.get(key, (version, now))
        self._resting[key] = (version, since if seen == version else now)
        # ctime moves with every write and cannot be set back; where its clock is not ours (a network file system), watching decides.
        rested = max(now - self._resting[key][1], now - ctime_ns / 1e9)
        if rested < self._settle or (arrival.kind == "file" and _has_writer(os.path.join(self._incoming, key[0]), key[1])):
            self._settled.pop(key, None)
            return False
        del self._resting[key]
        return True


def arrival_of(key: Key, status: os.stat_result) -> Arrival:
    return Arrival(folder=key[0], name=key[1], kind=_kind(status), identity=_identity(status))


def is_passed_over(name: str) -> bool:
    """Whether a file of this name is never looked at: a hidden one, or one that an uploader is still writing."""
    return name.startswith(".") or name.lower().endswith(UPLOAD_SUFFIXES)


def left_alone(incoming: str, rubrics: Collection[str]) -> list[str]:
    """What is passed over in incoming/ and in the subfolders of `rubrics`, as it lies there."""
    found: list[str] = []
    for folder in ("", *sorted(rubrics)):
        with contextlib.suppress(OSError), opened_folder(os.path.join(incoming, folder)) as fd:
            found += [os.path.join(folder, name) for name in sorted(filter(is_passed_over, os.listdir(fd)))]
    return found


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


def _version(identity: Identity, ctime_ns: int) -> bytes:
    """What differs once a file was written to or replaced. Bytes, since 100,000 of them are kept."""
    return f"{identity.device} {identity.inode} {identity.size} {identity.mtime_ns} {ctime_ns}".encode()


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


def _has_writer(folder: str, name: str) -> bool:
    """Whether someone has the file open for writing: then the kernel refuses a read lease (fcntl(2), F_SETLEASE).

    Never of a file elsewhere, whatever is a link by now: who may drop files may also swap a folder for one.
    Where leases cannot be had (another owner's file, a network file system) the settle time alone decides.
    """
    try:
        with opened_folder(folder) as outer:
            fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=outer)
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
