"""Options that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

SpoolOption = Annotated[Path, typer.Option("--spool", envvar="FIFOMARK_SPOOL", help="The spool folder.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
DEFAULT_SPOOL = Path("spool")
