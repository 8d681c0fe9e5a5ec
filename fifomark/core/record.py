"""The base of everything that crosses a border (TOML, ledger, worker, report, disk)."""

from __future__ import annotations

import msgspec


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A frozen record; an unknown field is an error, so that two versions never misread each other in silence."""
