"""`fifomark drain`."""

from __future__ import annotations

import sys

from fifomark.cli.options import DEFAULT_SPOOL, SpoolOption
from fifomark.cli.progress import queue_bar


def drain(spool: SpoolOption = DEFAULT_SPOOL) -> None:
    from fifomark.daemon.service import run

    with queue_bar() as on_turn:
        daemon = run(spool, "drain", on_turn)
    for _, name in sorted(daemon.listing.unsettled):
        print(f"left for the next time: {name!r} is still being written", file=sys.stderr)
