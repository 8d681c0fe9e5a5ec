"""`fifomark drain`."""

from __future__ import annotations

import sys

from fifomark.cli.exits import Exit, stopped_by
from fifomark.cli.options import DEFAULT_SPOOL, SpoolOption
from fifomark.cli.progress import queue_bar


def drain(spool: SpoolOption = DEFAULT_SPOOL) -> int:
    from fifomark.daemon.service import run

    with queue_bar() as on_turn:
        ending = run(spool, "drain", on_turn)
    if ending.paused:
        print(f"paused {ending.paused}: nothing new was started; go on with: fifomark resume", file=sys.stderr)
    for name in ending.unsettled:
        print(f"left for the next time: {name!r} is still being written", file=sys.stderr)
    if not ending.idle and ending.signal is not None:
        print("stopped before everything was marked; what is left waits for the next drain", file=sys.stderr)
        return stopped_by(ending.signal)
    return Exit.FINE
