"""`fifomark serve`."""

from __future__ import annotations

import logging
from typing import Annotated

import typer

from fifomark.cli.options import DEFAULT_SPOOL, SpoolOption
from fifomark.settings import LogFormat

LogFormatOption = Annotated[LogFormat | None, typer.Option("--log-format", help="How to log on stderr; without it, as the settings say.")]


def serve(spool: SpoolOption = DEFAULT_SPOOL, log_format: LogFormatOption = None) -> None:
    from fifomark.daemon.service import run

    run(spool, "serve", log_format=log_format, log_level=logging.INFO)
