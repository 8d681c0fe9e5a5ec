"""`fifomark pause`."""

from __future__ import annotations

from fifomark.cli.options import DEFAULT_SPOOL, JsonOption, SpoolOption
from fifomark.cli.output import answered


def pause(spool: SpoolOption = DEFAULT_SPOOL, json: JsonOption = False) -> int:
    from fifomark.daemon.control import steer

    return answered(steer(spool, "pause"), json=json)
