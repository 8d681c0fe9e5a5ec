"""What waits in incoming/: what lies there is the truth, an event of the watcher only says when and where to look."""

from __future__ import annotations

import contextlib
import enum
import errno
import fcntl
import itertools
import os
import signal
import stat
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from types import TracebackType

from fifomark.core.submission import Arrival, Identity, Key, Kind, Listing, Look
from fifomark.spool.moves import opened_folder

# Names that uploaders use while they write. Never looked at.
UPLOAD_SUFFIXES = (".part", ".tmp", ".crdownload", ".filepart", ".partial", ".download", ".swp", ".upload")
_ENDINGS = frozenset(suffix[-2:] for suffix in UPLOAD_SUFFIXES)  # quickly told of 100,000 names
_AT_ONCE = 256  # names that a sweep looks at between two looks at the clock
_KINDS: tuple[tuple[int, Kind], ...] = (
    (stat.S_IFREG, "file"),
    (stat.S_IFLNK, "link"),
    (stat.S_IFDIR, "folder"),
    (stat.S_IFIFO, "pipe"),
    (stat.S_IFSOCK, "socket"),
)


class _Standing(enum.Enum):
    """How something stands of which there is nothing to tell but that."""

    AS_BEFORE = enum.auto()  # or nobody can say
    UNSETTLED = enum.auto()
    GONE = enum.auto()  # nothing is there that could be submitted


class Intake:
    """Looks at incoming/ and tells what has settled: unchanged for `settle` seconds, and open for writing by nobody.

    A look costs what has changed, not what waits: a file that was told of is told of again only when it has changed. Which subfolders are
    looked into says whoever asks, by the `rubrics` that are loaded; a folder of which `is_rubric` says that it is one's is left alone.
    Without `leases` (a network file system, which refuses them as if there were a writer) nobody is asked who writes.
    """

    def __init__(self, incoming: str, settle: float, is_rubric: Callable[[str], bool] = lambda name: False, *, leases: bool = True) -> None:
        self._incoming, self._settle, self._is_rubric, self._leases = incoming, settle, is_rubric, leases
        self._settled: dict[Key, bytes] = {}  # what was told of, or found, each as it was then
        self._resting: dict[Key, tuple[bytes, float]] = {}  # what is not settled: as it was seen, and since when
        self._sweep: _Sweep | None = None
        self._found: dict[Key, Arrival] = {}  # by the sweep, and not told of yet

    @property
    def unsettled(self) -> Collection[Key]:
        """What was not settled when it was last looked at."""
        return self._resting.keys()

    @property
    def sweeping(self) -> bool:
        """Whether a look at everything was begun and is not at its end."""
        return self._sweep is not None

    def look(self, now: float, look: Look, rubrics: Collection[str], waiting: Iterable[Key] = ()) -> Listing:
        """What is new at `now` (seconds since the epoch).

        A look at everything goes on where the last one stopped. What it finds is told of at its end, so that it can be put in order; of
        what is `waiting` then, that is gone which does not lie there any more.
        """
        seen = self._look_at([*look.keys, *(self._resting.keys() - look.keys if look.again else ())], now, rubrics)
        if not look.seconds:
            return seen
        more = self._go_on(now, look.seconds, rubrics, waiting)
        return Listing(arrivals=seen.arrivals + more.arrivals, unsettled=seen.unsettled | more.unsettled, gone=seen.gone | more.gone)

    def look_again(self, now: float, key: Key, rubrics: Collection[str]) -> Listing:
        """What is new of `key` alone. Also where nothing has changed it is asked who has it open for writing."""
        with _Folders(self._incoming) as folders:
            match self._seen(key, now, rubrics, folders, once_more=True):
                case Arrival() as arrival:
                    return Listing(arrivals=(arrival,))
                case _Standing.UNSETTLED:
                    return Listing(unsettled=frozenset({key}))
                case _Standing.GONE:
                    return Listing(gone=frozenset({key}))
                case _Standing.AS_BEFORE:
                    return Listing()

    def forget(self, key: Key) -> None:
        """What lies there is told of as if it were new."""
        self._settled.pop(key, None)
        self._resting.pop(key, None)
        self._found.pop(key, None)

    def _go_on(self, now: float, seconds: float, rubrics: Collection[str], waiting: Iterable[Key]) -> Listing:
        """With the look at everything, for about so long, or until much is gone, or to its end: then what it has found is told."""
        until = time.perf_counter() + seconds
        self._sweep = self._sweep or _Sweep(self._listed(rubrics))
        self._sweep.known = itertools.chain(self._settled, self._resting, waiting)
        unsettled: set[Key] = set()
        gone: set[Key] = set()
        while some := list(itertools.islice(self._sweep, _AT_ONCE)):
            seen = self._look_at(some, now, rubrics)
            self._found.update(((arrival.folder, arrival.name), arrival) for arrival in seen.arrivals)
            unsettled |= seen.unsettled
            gone |= seen.gone
            if time.perf_counter() >= until or len(gone) >= _AT_ONCE:
                return Listing(unsettled=frozenset(unsettled), gone=frozenset(gone))
        found, self._found, self._sweep = self._found, {}, None
        return Listing(arrivals=tuple(found.values()), unsettled=frozenset(unsettled), gone=frozenset(gone))

    def _look_at(self, keys: list[Key], now: float, rubrics: Collection[str]) -> Listing:
        """What there is to tell of these."""
        arrivals: list[Arrival] = []
        unsettled: list[Key] = []
        gone: list[Key] = []
        if keys:
            with _Folders(self._incoming) as folders:
                for key in keys:
                    told = key in self._resting
                    match self._seen(key, now, rubrics, folders):
                        case _Standing.AS_BEFORE:
                            continue
                        case _Standing.GONE:
                            gone.append(key)
                        case _Standing.UNSETTLED if not told:
                            unsettled.append(key)
                        case Arrival() as arrival:
                            arrivals.append(arrival)
        return Listing(arrivals=tuple(arrivals), unsettled=frozenset(unsettled), gone=frozenset(gone))

    def _listed(self, rubrics: Collection[str]) -> Iterator[Key]:
        """What lies in incoming/ and in the subfolders of rubrics."""
        for name in os.listdir(self._incoming):
            yield "", name
        for folder in sorted(rubrics):
            # It may be none, a link that is never looked through, or closed to us, at any time.
            with contextlib.suppress(OSError), opened_folder(os.path.join(self._incoming, folder)) as fd:
                for name in os.listdir(fd):
                    yield folder, name

    def _seen(self, key: Key, now: float, rubrics: Collection[str], folders: _Folders, *, once_more: bool = False) -> Arrival | _Standing:
        """What has just settled there, or was found and not told of; else how it stands. `once_more`: ask again who writes."""
        found = self._found.pop(key, None)
        folder, name = key
        try:
            status = folders.status(key) if not is_passed_over(name) and (not folder or folder in rubrics) else None
        except OSError:  # closed to us, or the disk's trouble: who takes it is told
            return found or _Standing.AS_BEFORE
        if status is None or (not folder and stat.S_ISDIR(status.st_mode) and (name in rubrics or self._is_rubric(name))):
            self.forget(key)
            return _Standing.GONE
        version = _version(status)
        if self._settled.get(key) == version and not (once_more and self._is_written(key, status, folders)):
            return found or _Standing.AS_BEFORE
        if not self._has_settled(key, version, status, now, folders):
            return _Standing.UNSETTLED
        self._settled[key] = version
        return arrival_of(key, status)

    def _has_settled(self, key: Key, version: bytes, status: os.stat_result, now: float, folders: _Folders) -> bool:
        seen, since = self._resting.get(key, (version, now))
        self._resting[key] = (version, since if seen == version else now)
        # ctime moves with every write and cannot be set back; where its clock is not ours (a network file system), watching decides.
        rested = max(now - self._resting[key][1], now - status.st_ctime_ns / 1e9)
        if rested < self._settle or self._is_written(key, status, folders):
            self._settled.pop(key, None)
            return False
        del self._resting[key]
        return True

    def _is_written(self, key: Key, status: os.stat_result, folders: _Folders) -> bool:
        return self._leases and stat.S_ISREG(status.st_mode) and folders.has_writer(key)


class _Sweep:
    """A look at everything: at what lay there when it was begun, and then at what is `known` and was not among that."""

    def __init__(self, listed: Iterable[Key]) -> None:
        self.known: Iterable[Key] = ()
        self._listed = dict.fromkeys(listed)  # in the folders' own order: the quickest to read
        self._unseen = self._keys()

    def __iter__(self) -> Iterator[Key]:
        return self._unseen

    def _keys(self) -> Iterator[Key]:
        yield from self._listed
        yield from dict.fromkeys(key for key in self.known if key not in self._listed)


class _Folders:
    """incoming/, OSError where it is closed to us, and its subfolders, each opened when it is first asked for. Never a file elsewhere,
    whatever is a link by now: who may drop files may also swap a folder for one."""

    def __init__(self, incoming: str) -> None:
        self._incoming = incoming
        self._opened: dict[str, int] = {}
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> _Folders:
        os.stat(os.curdir, dir_fd=self._fd(""))  # closed to us, all that waits would look as before, whatever comes of it
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.close()

    def status(self, key: Key) -> os.stat_result | None:
        """None where nothing is there, or nothing that can be reached without following a link; OSError where nobody can say."""
        try:
            return os.stat(key[1], dir_fd=self._fd(key[0]), follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as e:
            if e.errno == errno.ELOOP:
                return None
            raise

    def has_writer(self, key: Key) -> bool:
        """Whether someone has the file open for writing: then the kernel refuses a read lease (fcntl(2), F_SETLEASE).

        Where leases cannot be had (another owner's file, a network file system) the settle time alone decides.
        """
        try:
            fd = os.open(key[1], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=self._fd(key[0]))
        except OSError:
            return False  # unreadable or gone: the claim will say so
        try:
            fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)  # who opens it meanwhile has us told so: by a signal that does nothing
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


def is_passed_over(name: str) -> bool:
    """Whether a file of this name is never looked at: a hidden one, or one that an uploader is still writing."""
    return name[:1] == "." or (name[-2:].lower() in _ENDINGS and name.lower().endswith(UPLOAD_SUFFIXES))


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
