"""What ties marks to their data: the sha256 of a file, or of a folder."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path


def sha256_of(path: str | os.PathLike[str]) -> str:
    """Of a file its bytes'. Of a folder: over its files in the order of their names, of each "NAME\\0SIZE\\0" and its bytes.

    OSError where something cannot be read.
    """
    if not os.path.isdir(path):
        with _opened(Path(path)) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    digest = hashlib.sha256()
    for name in files_of(path):
        with _opened(Path(path, name)) as file:
            digest.update(os.fsencode(f"{name}\0{os.fstat(file.fileno()).st_size}\0"))
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def files_of(folder: str | os.PathLike[str]) -> list[str]:
    """The names of all files in and below `folder`, with "/", in the order of their bytes.

    What begins with a dot is left out (.DS_Store comes and goes); a link to a folder is an OSError: nothing may lie outside of the hash.
    """
    return sorted(_files(os.fspath(folder), ""), key=os.fsencode)


def _files(folder: str, prefix: str) -> Iterator[str]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if not entry.is_dir():
                yield prefix + entry.name
            elif entry.is_symlink():
                raise OSError(errno.ELOOP, "links to folders are not followed", entry.path)
            else:
                yield from _files(entry.path, f"{prefix}{entry.name}/")


def _opened(path: Path) -> BufferedReader:
    """Never waits: a named pipe would, for ever."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "is no regular file", str(path))
    return path.open("rb")
