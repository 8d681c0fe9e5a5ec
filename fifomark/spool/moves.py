"""Renames that never overwrite, and the fsyncs that make them last."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import islice

_AT_FDCWD = -100
_RENAME_NOREPLACE = 1
_OPEN_AT_ONCE = 100  # files
_libc = ctypes.CDLL(None, use_errno=True)


@contextmanager
def opened_folder(path: str) -> Iterator[int]:
    """A descriptor of the folder itself, never of what a link there points to; OSError where it is a link or no folder."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def opened_subfolder(folder: str, name: str) -> Iterator[int]:
    """As `opened_folder`, of the folder `name` in `folder`, which is made where it is missing ("": `folder` itself)."""
    with opened_folder(folder) as outer:
        if not name:
            yield outer
            return
        with suppress(FileExistsError):
            os.mkdir(name, dir_fd=outer)
        try:
            fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=outer)
        except OSError as e:
            raise OSError(e.errno, e.strerror, os.path.join(folder, name)) from e
        try:
            yield fd
        finally:
            os.close(fd)


def rename(source: str, target: str, source_folder: int | None = None, target_folder: int | None = None) -> None:
    """Move `source` to `target` in one step; FileExistsError where something is there already, never an overwrite.

    renameat2(2) with RENAME_NOREPLACE: os.rename overwrites in silence. With `source_folder`, a descriptor, `source` is a name in it; so
    with `target_folder`.
    """
    from_folder = _AT_FDCWD if source_folder is None else source_folder
    to_folder = _AT_FDCWD if target_folder is None else target_folder
    renameat2 = getattr(_libc, "renameat2", None)
    if renameat2 is not None:
        if renameat2(from_folder, os.fsencode(source), to_folder, os.fsencode(target), _RENAME_NOREPLACE) == 0:
            return
        code = ctypes.get_errno()
        if code not in (errno.ENOSYS, errno.EINVAL):
            raise OSError(code, os.strerror(code), source, None, target)
    # A file system without RENAME_NOREPLACE (NFS): the spool has one daemon, so looking first is enough.
    if is_there(target, target_folder):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), source, None, target)
    os.rename(source, target, src_dir_fd=source_folder, dst_dir_fd=target_folder)


def is_there(name: str, folder: int | None = None) -> bool:
    """Whether anything has this name, a link to nothing included."""
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def advance(source: str, target: str, source_folder: int | None = None) -> bool:
    """Make sure that what lay at `source` lies at `target`, whether or not it was moved before; False where it is in neither place."""
    try:
        rename(source, target, source_folder)
    except FileNotFoundError:
        return os.path.lexists(target)
    return True


def sync_folder(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with _naming(path):
            os.fsync(fd)
    finally:
        os.close(fd)


@contextmanager
def _naming(path: str) -> Iterator[None]:
    """Errors that a descriptor's calls raise do not say of what file."""
    try:
        yield
    except OSError as e:
        if e.filename is None:
            raise OSError(e.errno, e.strerror, path) from e
        raise


@contextmanager
def publishing(path: str, *, durable: bool = True) -> Iterator[int]:
    """A descriptor to write to; what was written appears at `path` whole, and fsynced if it is to outlive a power cut, or not at all."""
    folder, name = os.path.split(path)
    temporary = os.path.join(folder, f".{name}.tmp")
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o644)
    except OSError as e:
        raise OSError(e.errno, e.strerror, path) from e  # a name that was asked for
    try:
        with _naming(path):
            yield fd
            if durable:
                os.fsync(fd)
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):  # a disk that does not take the file may not let it go either; what went wrong first is what to tell
            os.unlink(temporary)
        raise
    finally:
        os.close(fd)


def publish_all(files: Iterable[tuple[str, bytes]]) -> None:
    """Publish the bytes of each path. All are written before the first is waited for: a disk that takes them together takes them sooner.

    OSError where one cannot be: then there may be some, and none that is not whole.
    """
    rest = iter(files)
    while some := list(islice(rest, _OPEN_AT_ONCE)):
        with ExitStack() as stack:
            for path, body in some:
                write_all(stack.enter_context(publishing(path)), body)


def write_all(fd: int, body: bytes) -> None:
    view = memoryview(body)
    while view:
        view = view[os.write(fd, view) :]
