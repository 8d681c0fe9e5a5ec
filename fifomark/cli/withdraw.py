"""`fifomark withdraw`."""

from __future__ import annotations

from fifomark.cli.options import DEFAULT_SPOOL, IdsArgument, JsonOption, SpoolOption
from fifomark.cli.output import answered


def withdraw(ids: IdsArgument, spool: SpoolOption = DEFAULT_SPOOL, json: JsonOption = False) -> int:
    from fifomark.daemon.control import steer

    return answered(steer(spool, "withdraw", ids), json=json)
