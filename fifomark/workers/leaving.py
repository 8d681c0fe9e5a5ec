"""The worker that has left a slot: a killed process may hang in a driver, and the memory that it had on a GPU may linger."""

from __future__ import annotations

from fifomark.workers import gpus
from fifomark.workers.process import Worker
from fifomark.workers.slots import Slot

DRAIN_SECONDS = 120.0  # until a GPU has to have given back the memory of a worker that was killed
_MOST = 0.9  # of that memory: drivers keep some for themselves


class Leaving:
    """Whether a slot still waits until its last worker has given back what it had; `late`: why that takes too long."""

    def __init__(self, slot: Slot) -> None:
        self._slot = slot
        self._worker: Worker | None = None
        self._since = 0.0
        self._free_before: int | None = None  # bytes of the GPU
        self.late: str | None = None

    @property
    def under_way(self) -> bool:
        return self._worker is not None

    def expect(self) -> None:
        """A worker is about to be started: what is free now it is to give back."""
        self._free_before = self._free()

    def left(self, worker: Worker, now: float) -> None:
        """It was killed, or has ended."""
        self._worker, self._since = worker, now

    def look(self, now: float) -> None:
        """See whether it has given back what it had."""
        if self._worker is None:
            return
        if self._worker.gone and self._memory_is_back():
            self._worker = self.late = None
        elif now - self._since > DRAIN_SECONDS:
            self.late = f"what its last worker had is not given back after {DRAIN_SECONDS:g} seconds"

    def _memory_is_back(self) -> bool:
        """As much as was free before the worker came, or at least what is this slot's: its neighbours on the GPU may have grown since."""
        free = self._free()
        if free is None or self._free_before is None:
            return True
        wanted = self._free_before if self._slot.memory_bytes is None else min(self._free_before, self._slot.memory_bytes)
        return free >= _MOST * wanted

    def _free(self) -> int | None:
        return gpus.free_bytes(self._slot.visible) if self._slot.device == "cuda" else None
