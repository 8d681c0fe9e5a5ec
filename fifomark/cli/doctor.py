"""`fifomark doctor`."""

from __future__ import annotations

import sys

from fifomark.cli.exits import Exit
from fifomark.cli.options import DEFAULT_SPOOL, JsonOption, SpoolOption
from fifomark.cli.output import json_line


def doctor(spool: SpoolOption = DEFAULT_SPOOL, json: JsonOption = False) -> int:
    """Exits with 1 where there is a fault."""
    from fifomark.daemon.doctor import examine

    faults = 0
    for seen in examine(spool):
        faults += seen.level == "fault"
        if json:
            json_line(seen)
        else:
            print(f"{seen.level:5}  {seen.about:9} {seen.message}" + (f"\n                 → {seen.advice}" if seen.advice else ""))
    print(f"{faults} faults" if faults else "no faults", file=sys.stderr)
    return Exit.NO if faults else Exit.FINE
