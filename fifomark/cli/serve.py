"""`fifomark serve`."""

from __future__ import annotations

import logging

from fifomark.cli.options import DEFAULT_SPOOL, LogFormatOption, SpoolOption


def serve(spool: SpoolOption = DEFAULT_SPOOL, log_format: LogFormatOption = None) -> None:
    from fifomark.daemon.service import run

    run(spool, "serve", log_format=log_format, log_level=logging.INFO)
