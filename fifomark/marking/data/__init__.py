"""The data set of a rubric: read without pickle and without torch, tied to its hash, and checked before any model sees it.

Whoever only reads a rubric gets its data's hash from here, and waits for no numpy: the rest is imported when it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fifomark.marking.data.loading import Data, Split, check_data, load_data

__all__ = ["Data", "Split", "check_data", "load_data"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from fifomark.marking.data import loading

    return getattr(loading, name)
