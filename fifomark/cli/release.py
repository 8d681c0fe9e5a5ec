"""`fifomark release`."""

from __future__ import annotations

from fifomark.cli.options import DEFAULT_SPOOL, IdsArgument, JsonOption, SpoolOption
from fifomark.cli.output import answered


def release(ids: IdsArgument, spool: SpoolOption = DEFAULT_SPOOL, json: JsonOption = False) -> int:
    from fifomark.daemon.control import steer

    return answered(steer(spool, "release", ids), json=json)
