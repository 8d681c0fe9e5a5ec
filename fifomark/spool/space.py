"""Whether there is room on the spool's disk for more."""

from __future__ import annotations

import os

_MOST = 1 << 30  # bytes that are kept free where the settings say nothing: a gibibyte,
_SHARE = 20  # or one in so many of a disk's bytes where that is less
_AGAIN = 1.25  # of what is kept free has to be free before work goes on: not to stop and go with every file


class Space:
    """Room is short from `wanted` free bytes down (None: see above), until there is a quarter more than that."""

    def __init__(self, folder: str | os.PathLike[str], wanted: int | None) -> None:
        self._folder, self._wanted = folder, wanted
        self._short = False

    def is_short(self) -> bool:
        """As it is now."""
        seen = os.statvfs(self._folder)
        free = seen.f_bavail * seen.f_frsize
        self._short = free < kept_free(seen, self._wanted) * (_AGAIN if self._short else 1)
        return self._short


def kept_free(seen: os.statvfs_result, wanted: int | None) -> int:
    """Bytes that are to stay free on a disk."""
    return min(_MOST, seen.f_blocks * seen.f_frsize // _SHARE) if wanted is None else wanted
