"""Which of several names was meant."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

# What others call it, where no likeness of letters would tell.
_ALSO = {"gpu": "cuda", "fp32": "float32", "float": "float32", "fp64": "float64", "double": "float64", "bf16": "bfloat16"}


def nearest(name: str, known: Sequence[str]) -> str | None:
    """Which of `known` was meant by `name`: what it is called elsewhere, what alone begins with it, or else what is most like it."""
    small = name.casefold()
    if _ALSO.get(small, "") in known:
        return _ALSO[small]
    begun = [one for one in known if len(small) > 2 and one.casefold().startswith(small)]
    if len(begun) == 1:
        return begun[0]
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return near[0] if near else next((one for one in known if one.casefold() == small), None)
