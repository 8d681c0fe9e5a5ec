"""What a spool knows and nobody else: the key that pseudonyms are made with."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from fifomark.core.errors import SpoolError
from fifomark.spool.moves import rename, sync_folder

_BYTES = 32


def pseudonym_key(path: Path) -> bytes:
    """The key in the file at `path`, which is made where there is none, for its owner's eyes only. Never replaced: every pseudonym that was
    given out would become another. SpoolError where what is there cannot be read, or is no key."""
    if not os.path.lexists(path):
        _make(path)
    try:
        text = path.read_text(encoding="ascii").strip()
        key = bytes.fromhex(text)
    except OSError as e:
        raise SpoolError(f"{path}: cannot be read: {e.strerror}; pseudonyms are made with it") from e
    except ValueError:
        key = b""
    if len(key) != _BYTES:
        raise SpoolError(f"{path}: is no key of {2 * _BYTES} hexadecimal digits; restore it, or remove it (all pseudonyms then change)")
    return key


def _make(path: Path) -> None:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, secrets.token_bytes(_BYTES).hex().encode() + b"\n")
        os.fsync(fd)
        with contextlib.suppress(FileExistsError):  # another was faster: theirs holds
            rename(os.fspath(temporary), os.fspath(path))
        sync_folder(os.fspath(path.parent))
    finally:
        os.close(fd)
        temporary.unlink(missing_ok=True)
