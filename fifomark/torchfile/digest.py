"""SHA-256 that does not hold up whoever feeds it."""

from __future__ import annotations

import hashlib
from queue import Queue
from threading import Thread

_LARGE = 8 << 20  # bytes from which on a thread pays
_AHEAD = 8  # pieces that may wait for it: they are held in memory


class Digest:
    """The hash of the bytes that are fed, in a thread of its own where there are many."""

    def __init__(self, expected: int) -> None:
        """`expected`: about how many bytes will come."""
        self._sha256 = hashlib.sha256()
        self._queue: Queue[bytes | memoryview | None] | None = None
        if expected >= _LARGE:
            self._queue = Queue(_AHEAD)
            self._thread = Thread(target=self._work, args=(self._queue,), daemon=True)
            self._thread.start()

    def update(self, data: bytes | memoryview) -> None:
        """`data` is kept for a while: nobody may change it afterwards."""
        if self._queue is None:
            self._sha256.update(data)
        else:
            self._queue.put(data)

    def hexdigest(self) -> str:
        """The hash of all that was fed. Nothing may be fed after."""
        self.close()
        return self._sha256.hexdigest()

    def close(self) -> None:
        """End the thread, once it has done what it was fed."""
        if self._queue is not None:
            self._queue.put(None)
            self._thread.join()
            self._queue = None

    def _work(self, queue: Queue[bytes | memoryview | None]) -> None:
        while (data := queue.get()) is not None:
            self._sha256.update(data)
