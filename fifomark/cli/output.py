"""Printing for programs."""

from __future__ import annotations

import sys

import msgspec


def json_line(value: object) -> None:
    """`value` as JSON on a line of its own, at once: what reads us may be waiting for it."""
    try:
        sys.stdout.buffer.write(msgspec.json.encode(value) + b"\n")
        sys.stdout.flush()
    except OSError as e:
        raise OSError(e.errno, e.strerror, "standard output") from e
