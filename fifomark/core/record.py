"""The base of everything that crosses a border (TOML, ledger, worker, report, disk)."""

from __future__ import annotations

from typing import dataclass_transform

import msgspec


@dataclass_transform(frozen_default=True, kw_only_default=True)  # tells type checkers what msgspec's own base class leaves open
class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A frozen record; an unknown field is an error, so that two versions never misread each other in silence."""
