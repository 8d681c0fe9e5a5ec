"""Ages and sizes as people write them."""

from __future__ import annotations

import re

import typer

_NUMBER = re.compile(r"(?P<number>[0-9]+(?:\.[0-9]+)?)\s*(?P<unit>[a-zA-Z]*)")
_DAYS = {"s": 1 / 86400, "m": 1 / 1440, "h": 1 / 24, "d": 1.0, "w": 7.0, "y": 365.0}
_BYTES = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def days(text: str) -> float:
    """ "30d" as 30.0."""
    return _read(text, _DAYS, "write a number and s, m, h, d, w or y, such as 30d")


def size(text: str) -> int:
    """ "10G" as its bytes; K, M, G and T are powers of 1024, as in du -h, and may be followed by B or iB."""
    return int(_read(re.sub(r"(?<=[kmgtKMGT])i?[bB]$", "", text.strip()), _BYTES, "write a number of bytes, or one with K, M, G or T: 10G"))


def _read(text: str, units: dict[str, float] | dict[str, int], hint: str) -> float:
    match = _NUMBER.fullmatch(text.strip())
    if match is None or (unit := match["unit"].lower()) not in units:
        raise typer.BadParameter(f"{text!r} is none; {hint}")
    return float(match["number"]) * units[unit]


def shown_size(count: float) -> str:
    """Bytes in the largest unit that leaves something before the point."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"
