"""From a path that a stranger may have made to an open descriptor of a plain file, or a finding."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from types import TracebackType

from fifomark.core.catalogue import find
from fifomark.core.findings import Finding
from fifomark.core.record import Record

_KINDS: tuple[tuple[Callable[[int], bool], str], ...] = (
    (stat.S_ISLNK, "a symbolic link"),
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISBLK, "a block device"),
    (stat.S_ISCHR, "a character device"),
)
# Never through a link, never waiting for a pipe's writer, never handed on to a program.
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

_OURS = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)  # no file is to blame for these


class Version(Record):
    """Two versions of a file that are equal hold the same bytes, as far as anybody can tell who has not read them."""

    size: int
    mtime_ns: int
    ctime_ns: int


class Submission:
    """An open file, and its version when it was opened. Closed on leaving the context."""

    def __init__(self, fd: int, status: os.stat_result) -> None:
        self.fd, self.version = fd, version_of(status)

    def __enter__(self) -> Submission:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        os.close(self.fd)


def open_submission(path: str) -> Submission | Finding:
    """The regular file with one name at `path`, opened; a finding for anything else. Reads nothing of it.

    OSError where this machine can open no more files.
    """
    try:
        status = os.lstat(path)
        if refusal := _refusal(status):
            return refusal
        fd = os.open(path, _FLAGS)
    except (OSError, ValueError) as e:
        if getattr(e, "errno", None) in _OURS:
            raise
        return find("FM104", "the file", f"cannot be opened: {getattr(e, 'strerror', None) or e}")
    opened = os.fstat(fd)
    if (opened.st_dev, opened.st_ino) == (status.st_dev, status.st_ino) and not (refusal := _refusal(opened)):
        return Submission(fd, opened)
    os.close(fd)
    return find("FM113", "the file", "another file took its place while it was opened")


def is_missing(path: str | os.PathLike[str]) -> bool:
    """Whether nothing bears this name. Not where that cannot be told: opening it will say why."""
    try:
        os.lstat(path)
    except OSError as e:
        return isinstance(e, FileNotFoundError | NotADirectoryError)
    except ValueError:
        return True  # no name can hold a null character
    return False


def _refusal(status: os.stat_result) -> Finding | None:
    if not stat.S_ISREG(status.st_mode):
        kind = next((kind for test, kind in _KINDS if test(status.st_mode)), "no regular file")
        return find("FM102", "the file", f"this is {kind}", evidence=stat.filemode(status.st_mode))
    if status.st_nlink > 1:
        return find("FM103", "the file", f"the file has {status.st_nlink} names (hard links)")
    if status.st_size == 0:
        return find("FM105", "the file", "the file is empty")
    return None


def version_of(status: os.stat_result) -> Version:
    return Version(size=status.st_size, mtime_ns=status.st_mtime_ns, ctime_ns=status.st_ctime_ns)
