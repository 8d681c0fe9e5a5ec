"""The reports that lie in a folder of the spool."""

from __future__ import annotations

import os
from collections.abc import Iterator

import msgspec

from fifomark.core.errors import InternalError
from fifomark.core.report import Report, decode


def stored_reports(folder: str) -> Iterator[Report]:
    """Every report in `folder`, by id; InternalError names one that is none (nothing is left out in silence)."""
    for name in sorted(os.listdir(folder)):
        if name.endswith(".json") and not name.startswith("."):
            path = os.path.join(folder, name)
            try:
                with open(path, "rb") as file:
                    yield decode(file.read())
            except msgspec.DecodeError as e:
                raise InternalError(f"{path} is no report of this version: {e}") from e
