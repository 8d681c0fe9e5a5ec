"""`fifomark prune`."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from fifomark.cli.exits import Exit
from fifomark.cli.options import DEFAULT_SPOOL, JsonOption, SpoolOption
from fifomark.cli.output import json_line
from fifomark.cli.progress import counted
from fifomark.cli.quantities import days, shown_size, size
from fifomark.cli.streams import say
from fifomark.core.errors import UsageError
from fifomark.daemon.look import open_ledger
from fifomark.settings import Retention
from fifomark.spool.spool import Spool

if TYPE_CHECKING:
    from fifomark.daemon.prune import Doomed

_AT_ONCE = 500  # submissions for one turn of a daemon: a fraction of a second

AgeOption = Annotated[float | None, typer.Option(parser=days, metavar="AGE", help="What ended longer ago than this: 30d, 12h, 2w.")]
SizeOption = Annotated[int | None, typer.Option(parser=size, metavar="SIZE", help="What ended first, until this is not exceeded: 10G.")]


def prune(
    older_than: AgeOption = None,
    keep: Annotated[int | None, typer.Option(min=0, metavar="N", help="All but the N that ended last.")] = None,
    max_bytes: SizeOption = None,
    reports: Annotated[bool, typer.Option("--reports", help="Their reports as well; leaderboards then know nothing of them.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go, and remove nothing.")] = False,
    spool: SpoolOption = DEFAULT_SPOOL,
    json: JsonOption = False,
) -> int:
    """Without a rule here those of the settings hold, [retention]."""
    from fifomark.daemon.prune import plan

    target = Spool(spool)
    rules = Retention(older_than_days=older_than, keep=keep, max_bytes=max_bytes, reports=reports)
    if not rules.limits_anything:
        rules = target.settings.retention
    if not rules.limits_anything:
        raise UsageError("nothing says what may go: --older-than 30d, --keep 1000 or --max-bytes 10G, or [retention] in the settings")
    doomed: list[Doomed] = []
    if (ledger := open_ledger(target.layout)) is not None:
        with contextlib.closing(ledger):
            doomed = plan(target, ledger, rules, time.time())
    gone = doomed if dry_run else list(counted("pruning", _pruned(target, doomed), len(doomed)))
    freed, kept = sum(one.bytes for one in gone), target.kept_bytes()
    if json:
        ids = [one.id for one in gone]
        json_line({"schema": "fifomark.prune/1", "dry_run": dry_run, "ids": ids, "freed_bytes": freed, "kept_bytes": kept})
    else:
        would = "would remove the files" if dry_run else "removed the files"
        print(f"{would} of {len(gone)} submissions, {shown_size(freed)}; {shown_size(kept)} are kept")
    return Exit.FINE if len(gone) == len(doomed) else Exit.INTERNAL


def _pruned(spool: Spool, doomed: list[Doomed]) -> Iterator[Doomed]:
    """Those whose files are gone; of any other it is told why not."""
    from fifomark.daemon.control import steer

    for stage in sorted({one.stage for one in doomed}):
        todo = [one for one in doomed if one.stage is stage]
        for start in range(0, len(todo), _AT_ONCE):
            part = {one.id: one for one in todo[start : start + _AT_ONCE]}
            for result in steer(spool.layout.root, "prune", tuple(part), stage).results:
                if result.done and result.id is not None:
                    yield part[result.id]
                else:
                    say(result.message)
