"""What is asked of an inspection and of the clean file beside it."""

from __future__ import annotations

from fifomark.core.inspection import Inspection


def codes(seen: Inspection) -> list[str]:
    return [finding.code for finding in seen.findings]
