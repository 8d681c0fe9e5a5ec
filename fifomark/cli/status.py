"""`fifomark status`: reads the ledger and the lock; never torch, never the daemon."""

from __future__ import annotations

from fifomark.cli.options import DEFAULT_SPOOL, JsonOption, SpoolOption
from fifomark.cli.output import json_line
from fifomark.daemon.look import look
from fifomark.reports import tables


def status(spool: SpoolOption = DEFAULT_SPOOL, json: JsonOption = False) -> None:
    seen = look(spool)
    if json:
        json_line(seen)
    else:
        print(tables.status(seen))
