"""Times as the world reads them: UTC, RFC 3339."""

from __future__ import annotations

from datetime import UTC, datetime


def utc(seconds: float) -> datetime:
    """Seconds since the epoch as an aware UTC datetime; what a forged mtime puts out of range is clamped to the years 1970 to 9999."""
    return datetime.fromtimestamp(min(max(seconds, 0.0), 253402300799.0), tz=UTC)
