"""Writing a file so that it appears whole or not at all."""

from __future__ import annotations

import contextlib
import os
from types import TracebackType


class Publication:
    """A file under a temporary name beside `path`, gone on leaving the context unless it was published. `fd` is for reading and writing.

    OSError where it cannot be written.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._temporary = os.path.join(os.path.dirname(path), f".{os.urandom(8).hex()}.tmp")
        self._published = False
        try:
            self.fd = os.open(self._temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        except OSError as e:
            raise OSError(e.errno, e.strerror, path) from e
        except BaseException:  # stopped by a signal, perhaps when the file was there already
            self._remove()
            raise

    def empty(self) -> None:
        """Forget what was written."""
        os.ftruncate(self.fd, 0)

    def publish(self) -> None:
        """Make it last, and give it its name, in place of what bears that name."""
        try:
            os.fsync(self.fd)
            os.rename(self._temporary, self.path)
        except OSError as e:
            raise OSError(e.errno, e.strerror, self.path) from e
        self._published = True

    def __enter__(self) -> Publication:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        os.close(self.fd)
        if not self._published:
            self._remove()

    def _remove(self) -> None:
        with contextlib.suppress(OSError):  # the folder may be gone by now, or the disk out of order, which is told already
            os.unlink(self._temporary)
