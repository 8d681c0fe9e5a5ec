"""Options that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

SpoolOption = Annotated[Path, typer.Option("--spool", envvar="FIFOMARK_SPOOL", help="The spool folder.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
ExtensionsOption = Annotated[
    list[str], typer.Option("--extension", metavar=".EXT", help="An ending that a model's name may have; may be given several times.")
]
DEFAULT_SPOOL = Path("spool")
