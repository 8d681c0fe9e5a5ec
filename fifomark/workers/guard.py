"""The one mistake that everybody makes with processes once: a script without its guard."""

from __future__ import annotations

import multiprocessing
import sys

from fifomark.workers.process import BOOT_FAILURE


def needs_guard(what: str) -> None:
    """Ends this process, where it is a worker that has come to `what` while it imports its parent's script: each would start another."""
    if getattr(multiprocessing.current_process(), "_inheriting", False):  # as multiprocessing itself asks, and says it in twenty lines
        line = f'fifomark: {what} starts processes that import this script again: put the call below  if __name__ == "__main__":'
        print(line, file=sys.stderr)  # noqa: T201 (an exception would come with a traceback through multiprocessing)
        sys.exit(BOOT_FAILURE)
