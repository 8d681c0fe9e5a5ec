"""What waits in incoming/: what lies there is the truth, an event of the watcher only says when and where to look."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import os
import stat
import time
from collections.abc import Collection, Iterable, Iterator
from types import TracebackType

from fifomark.core.submission import Arrival, Identity, Key, Kind, Listing, Look
from fifomark.spool.moves import opened_folder

# Names that uploaders use while they write. Never looked at.
UPLOAD_SUFFIXES = (".part", ".tmp", ".crdownload", ".filepart", ".partial", ".download", ".swp", ".upload")
_AT_ONCE = 256  # names that a sweep looks at between two looks at the clock
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
        self._settled: dict[Key, bytes] = {}  # what was told of, or found, each as it was then
        self._resting: dict[Key, tuple[bytes, float]] = {}  # what is not settled: as it was seen, and since when
        self._sweep: _Sweep | None = None
        self._found: dict[Key, Arrival] = {}  # by the sweep, and not told of yet

    @property
    def sweeping(self) -> bool:
        """Whether a look at everything was begun and is not at its end."""
        return self._sweep is not None

    def look(
        self, now: float, look: Look, rubrics: Collection[str], waiting: Iterable[Key] = (), untouched: Collection[str] = ()
    ) -> Listing:
        """What is new at `now` (seconds since the epoch); a subfolder that is named as a rubric is looked into, one `untouched` left alone.

        A look at everything goes on where the last one stopped. What it finds is told of at its end, so that it can be put in order; of
        what is `waiting` then, that is gone which does not lie there any more.
        """
        keys = {*look.keys, *(self._resting if look.again else ())}
        arrivals, gone = self._look_at(keys, now, rubrics, untouched)
        if look.seconds:
            found, missed = self._go_on(now, look.seconds, rubrics, waiting, untouched)
            arrivals, gone = arrivals + found, gone | missed
        return Listing(arrivals=tuple(arrivals), unsettled=frozenset(self._resting), gone=frozenset(gone))

    def look_again(self, now: float, key: Key, rubrics: Collection[str]) -> Listing:
        """As `look`, of `key` alone, whatever else there is."""
        arrivals, gone = self._look_at((key,), now, rubrics)
        return Listing(arrivals=tuple(arrivals), unsettled=frozenset({key} & self._resting.keys()), gone=frozenset(gone))

    def _go_on(
        self, now: float, seconds: float, rubrics: Collection[str], waiting: Iterable[Key], untouched: Collection[str]
    ) -> tuple[list[Arrival], set[Key]]:
        """For about so long, or to its end, with the look at everything: what has settled (at its end), and what is gone."""
        until = time.perf_counter() + seconds
        sweep = self._sweep = self._sweep or _Sweep(self._listed(rubrics))
        gone: set[Key] = set()
        while some := list(itertools.islice(sweep.unseen, _AT_ONCE)):
            found, missed = self._look_at(some, now, rubrics, untouched)
            self._found.update(((arrival.folder, arrival.name), arrival) for arrival in found)
            gone |= missed
            if time.perf_counter() >= until:
                return [], gone
        self._sweep, found = None, [*self._found.values()]
        self._found.clear()
        unlisted = [key for key in itertools.chain(self._settled, self._resting, waiting) if key not in sweep.listed]
        nowhere = {key for key in unlisted if not _is_looked_at(key, rubrics)}
        for key in nowhere:
            self._forget(key)
        late, missed = self._look_at(unlisted, now, rubrics, untouched)  # what came since it was listed is not gone
        return found + late, gone | missed | nowhere

    def _look_at(
        self, keys: Iterable[Key], now: float, rubrics: Collection[str], untouched: Collection[str] = ()
    ) -> tuple[list[Arrival], set[Key]]:
        """What has settled there and was not told of, and what is gone."""
        arrivals: list[Arrival] = []
        gone: set[Key] = set()
        with _Folders(self._incoming) as folders:
            for key in keys:
                if not _is_looked_at(key, rubrics):
                    continue
                folder, name = key
                status = folders.status(key)
                if status is None:
                    gone.add(key)
                    self._forget(key)
                elif not folder and stat.S_ISDIR(status.st_mode) and (name in rubrics or name in untouched):
                    continue
                elif arrival := self._news(key, status, now, folders):
                    arrivals.append(arrival)
        return arrivals, gone

    def _listed(self, rubrics: Collection[str]) -> Iterator[Key]:
        """What lies in incoming/ and in the subfolders of rubrics."""
        for name in os.listdir(self._incoming):
            yield "", name
        for folder in sorted(rubrics):
            # It may be none, a link that is never looked through, or closed to us, at any time.
            with contextlib.suppress(OSError), opened_folder(os.path.join(self._incoming, folder)) as fd:
                for name in os.listdir(fd):
                    yield folder, name

    def _forget(self, key: Key) -> None:
        self._settled.pop(key, None)
        self._resting.pop(key, None)
        self._found.pop(key, None)

    def _news(self, key: Key, status: os.stat_result, now: float, folders: _Folders) -> Arrival | None:
        """The arrival of what has just settled; None for what has not, and for what was told of before."""
        found = self._found.pop(key, None)
        version = _version(status)
        if self._settled.get(key) == version:
            return found
        arrival = arrival_of(key, status)
        if not self._has_settled(arrival, version, status.st_ctime_ns, now, folders):
            return None
        self._settled[key] = version
        return arrival

    def _has_settled(self, arrival: Arrival, version: bytes, ctime_ns: int, now: float, folders: _Folders) -> bool:
        key = (arrival.folder, arrival.name)
        seen, since = self._resting.get(key, (version, now))
        self._resting[key] = (version, since if seen == version else now)
        # ctime moves with every write and cannot be set back; where its clock is not ours (a network file system), watching decides.
        rested = max(now - self._resting[key][1], now - ctime_ns / 1e9)
        if rested < self._settle or (arrival.kind == "file" and folders.has_writer(key)):
            self._settled.pop(key, None)
            return False
        del self._resting[key]
        return True


class _Sweep:
    """A look at everything that lay there when it was begun."""

    def __init__(self, listed: Iterable[Key]) -> None:
        self.listed = dict.fromkeys(listed)  # in the folders' own order: the quickest to read
        self.unseen = iter(self.listed)


class _Folders:
    """incoming/ and its subfolders, each opened when it is first asked for. Never a file elsewhere, whatever is a link by now: who may
    drop files may also swap a folder for one."""

    def __init__(self, incoming: str) -> None:
        self._incoming = incoming
        self._opened: dict[str, int] = {}
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> _Folders:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.close()

    def status(self, key: Key) -> os.stat_result | None:
        """None where nothing is there, or nothing that can be reached without following a link; OSError where incoming/ cannot be opened:
        all that waits would look gone."""
        incoming = self._fd("")
        try:
            return os.stat(key[1], dir_fd=self._fd(key[0]) if key[0] else incoming, follow_symlinks=False)
        except OSError:
            return None

    def has_writer(self, key: Key) -> bool:
        """Whether someone has the file open for writing: then the kernel refuses a read lease (fcntl(2), F_SETLEASE).

        Where leases cannot be had (another owner's file, a network file system) the settle time alone decides.
        """
        try:
            fd = os.open(key[1], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=self._fd(key[0]))
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

    def _fd(self, folder: str) -> int:
        if folder not in self._opened:
            self._opened[folder] = self._stack.enter_context(opened_folder(os.path.join(self._incoming, folder)))
        return self._opened[folder]


def arrival_of(key: Key, status: os.stat_result) -> Arrival:
    return Arrival(folder=key[0], name=key[1], kind=_kind(status), identity=_identity(status))


def _is_looked_at(key: Key, rubrics: Collection[str]) -> bool:
    return not is_passed_over(key[1]) and (not key[0] or key[0] in rubrics)


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


def _version(status: os.stat_result) -> bytes:
    """What differs once a file was written to or replaced. Bytes, since 100,000 of them are kept."""
    return f"{status.st_dev} {status.st_ino} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}".encode()


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value
