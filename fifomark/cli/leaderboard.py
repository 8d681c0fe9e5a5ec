"""`fifomark leaderboard`."""

from __future__ import annotations

import sys
from enum import StrEnum
from functools import partial
from typing import Annotated

import typer

from fifomark.cli import options
from fifomark.cli.options import DEFAULT_SPOOL, JsonOption, SpoolOption
from fifomark.cli.output import json_line
from fifomark.core.errors import UsageError
from fifomark.core.text import shown
from fifomark.reports import tables
from fifomark.reports.leaderboard import Row, pseudonym, ranked
from fifomark.reports.stored import stored_reports
from fifomark.spool.layout import Layout
from fifomark.spool.secret import pseudonym_key
from fifomark.spool.spool import Spool


class Format(StrEnum):
    TABLE = "table"
    MARKDOWN = "markdown"
    CSV = "csv"
    JSON = "json"


def leaderboard(
    rubric: Annotated[
        str, typer.Option(help="The rubric to rank by; without it the spool's default one, or the only one with marks.")
    ] = "",
    format: Annotated[Format, typer.Option(help="What to print.")] = Format.TABLE,
    spool: SpoolOption = DEFAULT_SPOOL,
    json: JsonOption = False,
) -> None:
    chosen = options.chosen(format, json)
    target = Spool(spool)
    wanted = rubric or _usual(target)
    if wanted not in target.rubrics():
        raise UsageError(f"--rubric {wanted}: no such rubric; rubrics here: {', '.join(target.rubrics())}")
    rows = ranking(target.layout, wanted)
    match chosen:
        case Format.JSON:
            json_line({"schema": "fifomark.leaderboard/1", "rubric": wanted, "rows": rows})
        case Format.CSV:
            print(tables.leaderboard_csv(rows), end="")
        case Format.MARKDOWN:
            print(tables.leaderboard(rows, "pipe"))
        case Format.TABLE:
            print(tables.leaderboard(rows) if rows else _nothing(target, wanted))


def _usual(spool: Spool) -> str:
    """The default rubric; or, where nothing was marked against that, the only one that has marks."""
    default, marked = spool.settings.default_rubric, _marked(spool)
    if default in marked or len(marked) != 1:
        return default
    print(f"nothing was marked against {default} yet; this is {marked[0]}", file=sys.stderr)
    return marked[0]


def _nothing(spool: Spool, wanted: str) -> str:
    others = ", ".join(f"--rubric {shown(name)}" for name in _marked(spool))
    return f"nothing was marked against {wanted} yet" + (f"; there are marks for {others}" if others else "")


def _marked(spool: Spool) -> list[str]:
    """The rubrics of the spool that something was marked against."""
    marked = {report.submission.rubric for report in stored_reports(spool.layout.folder("done"))}
    return [name for name in spool.rubrics() if name in marked]


def ranking(layout: Layout, rubric: str) -> list[Row]:
    """The ranking of a spool's marked submissions under `rubric`, as its [leaderboard] says: by the metric that it names, or its first."""
    from fifomark.marking.rubric import load_rubric

    rules = load_rubric(layout.rubric(rubric))
    hidden = rules.leaderboard.names == "pseudonym"
    return ranked(
        stored_reports(layout.folder("done")),
        rubric,
        rules.leaderboard.primary or rules.metrics[0].id,
        split=rules.ranked_on,
        keep=rules.attempts.keep,
        digits=rules.feedback.digits,
        pseudonym=partial(pseudonym, pseudonym_key(layout.pseudonyms), rubric) if hidden else None,
    )
