"""`fifomark service systemd` and `fifomark service cron`."""

from __future__ import annotations

from typing import Annotated

import typer

from fifomark.cli.options import DEFAULT_SPOOL, SpoolOption

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False, no_args_is_help=True)


@app.command()
def systemd(
    spool: SpoolOption = DEFAULT_SPOOL,
    user: Annotated[str | None, typer.Option(metavar="NAME", help="Whom it runs as; without it, the spool's owner.")] = None,
) -> None:
    """Print a hardened unit that serves the spool."""
    from fifomark.daemon.units import systemd_unit

    print(systemd_unit(spool, user), end="")


@app.command()
def cron(
    spool: SpoolOption = DEFAULT_SPOOL,
    every: Annotated[int, typer.Option(metavar="MINUTES", min=1, max=59, help="How often to drain.")] = 5,
) -> None:
    """Print lines for a crontab that drain the spool."""
    from fifomark.daemon.units import cron_line

    print(cron_line(spool, every), end="")
