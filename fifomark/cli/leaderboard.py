"""`fifomark leaderboard`."""

from __future__ import annotations

from enum import StrEnum
from functools import partial
from typing import Annotated

import typer

from fifomark.cli import options
from fifomark.cli.options import DEFAULT_SPOOL, JsonOption, SpoolOption
from fifomark.cli.output import json_line
from fifomark.core.errors import UsageError
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
    rubric: Annotated[str, typer.Option(help="The rubric to rank by; without it, the spool's default one.")] = "",
    format: Annotated[Format, typer.Option(help="What to print.")] = Format.TABLE,
    spool: SpoolOption = DEFAULT_SPOOL,
    json: JsonOption = False,
) -> None:
    chosen = options.chosen(format, json)
    target = Spool(spool)
    wanted = rubric or target.settings.default_rubric
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
            print(tables.leaderboard(rows) if rows else f"nothing was marked against {wanted} yet")


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
        pseudonym=partial(pseudonym, pseudonym_key(layout.pseudonyms), rubric) if hidden else None,
    )
