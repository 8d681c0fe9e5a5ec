"""Making what a stranger chose fit to be shown: one line, printable, bounded."""

from __future__ import annotations


def shown(text: str, limit: int = 200) -> str:
    """`text` on one line with everything unprintable escaped (newlines, ANSI, lone surrogates), at most `limit` characters."""
    clipped = text[: limit + 1]
    safe = (
        clipped
        if clipped.isprintable()
        else "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode("ascii") for c in clipped)
    )
    return safe if len(safe) <= limit else safe[: limit - 1] + "…"
