"""`fifomark serve`."""

from __future__ import annotations

import sys

from fifomark.cli.options import DEFAULT_SPOOL, SpoolOption


def serve(spool: SpoolOption = DEFAULT_SPOOL) -> None:
    from fifomark.daemon.service import run

    print(f"serving {spool}; drop files into {spool / 'incoming'}; stop with Ctrl-C or SIGTERM", file=sys.stderr)
    run(spool, "serve")
    print("stopped; what was in hand waits where it was", file=sys.stderr)
