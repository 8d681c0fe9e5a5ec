"""FIFOModelQueue: first in, first out, for a script that works on model files one after another or on all slots at once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal

from fifomark.core.errors import FunctionFailed, UsageError
from fifomark.ledger.fifo import Fifo, Item

if TYPE_CHECKING:
    from fifomark.workers.function import Processing

ModelPath = str | os.PathLike[str]


class FIFOModelQueue:
    """A queue of model files. Without `file` it lives in memory; with one it is durable, and several processes may share it.

    In memory a path comes out as it went in. A durable queue keeps absolute paths, since another process may work elsewhere.
    """

    def __init__(self, file: ModelPath | None = None) -> None:
        self._durable = file is not None
        self._fifo = Fifo(":memory:" if file is None else os.fspath(file))

    def enqueue(self, path: ModelPath) -> None:
        """Put `path` at the end."""
        text = os.fspath(path)
        if not isinstance(text, str):
            raise TypeError(f"a path is expected, found {type(path).__name__}")
        self._fifo.put(os.path.abspath(text) if self._durable else text, is_path=not isinstance(path, str))

    def dequeue(self) -> str | Path:
        """Remove and return the first path; IndexError where nothing waits."""
        item = self._fifo.take()
        if item is None:
            raise IndexError("the queue is empty: nothing to dequeue (ask is_empty() first)")
        return _path(item)

    def is_empty(self) -> bool:
        return self._fifo.count() == 0

    def __len__(self) -> int:
        """How many wait."""
        return self._fifo.count()

    def __bool__(self) -> bool:
        return not self.is_empty()

    def __iter__(self) -> Iterator[str | Path]:
        """What waits, first to last, as it stands now; nothing is removed."""
        return iter([_path(item) for item in self._fifo.waiting()])

    def process(
        self,
        function: Callable[[str], object],
        slots: Literal["auto"] | Sequence[str] = "auto",
        *,
        on_error: Literal["raise", "return"] = "raise",
    ) -> Iterator[object]:
        """Run `function(path)` over everything that waits, on all slots at once; its results come in FIFO order.

        `slots` is "auto" (one for each GPU, or else for each CPU core) or a list such as ["cuda:0", "cpu:2"]. Each worker is a process
        that sees its own slot only (CUDA_VISIBLE_DEVICES), so `function` must be defined at the top level of a module, and what it
        returns must be plain data (None, numbers, strings, bytes, lists, dicts; tuples arrive as lists, records as dicts). In a script,
        call it below `if __name__ == "__main__":`, since each worker imports the script again.
        A path leaves the queue when its result is given out; what is not finished waits again if the loop ends or this process dies.
        Where `function` raised or its worker died, FunctionFailed is raised in the result's place, or returned with `on_error="return"`.
        """
        from fifomark.workers.function import Processing
        from fifomark.workers.guard import needs_guard
        from fifomark.workers.slots import find_slots

        needs_guard("FIFOModelQueue.process()")
        if on_error not in ("raise", "return"):
            raise UsageError(f'on_error must be "raise" or "return", not {on_error!r}')
        return self._process(Processing(function, find_slots(slots, file="FIFOModelQueue.process")), on_error)

    def _process(self, processing: Processing, on_error: str) -> Iterator[object]:
        claimed: set[int] = set()

        def claims() -> Iterator[tuple[int, str]]:
            while (item := self._fifo.claim()) is not None:
                claimed.add(item.id)
                yield item.id, item.path

        try:
            for id, result in processing.results(claims()):
                claimed.discard(id)
                self._fifo.finish(id)
                if isinstance(result, FunctionFailed) and on_error == "raise":
                    raise result
                yield result
        finally:
            processing.close()
            for id in sorted(claimed):
                self._fifo.release(id)

    def close(self) -> None:
        self._fifo.close()

    def __enter__(self) -> FIFOModelQueue:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def _path(item: Item) -> str | Path:
    return Path(item.path) if item.is_path else item.path
