"""Changes to bytes that know nothing of what they change."""

from __future__ import annotations

from random import Random

BOUNDARIES = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF, 1 << 62, (1 << 63) - 1, 1 << 63)


def changed(body: bytes, rng: Random) -> bytes:
    """`body` after a few changes of bytes; it may be empty."""
    data = bytearray(body)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        if data:
            _change(data, rng)
    return bytes(data)


def _change(data: bytearray, rng: Random) -> None:
    at, length = rng.randrange(len(data)), rng.choice((1, 1, 2, 4, 8, 30, 200))
    piece = bytes(data[at : at + length])
    match rng.randrange(9):
        case 0:
            data[at] ^= 1 << rng.randrange(8)
        case 1:
            data[at] = rng.choice((rng.randrange(256), 0, 255, 127, 128))
        case 2:
            data[at:at] = rng.randbytes(length)
        case 3:
            del data[at : at + length]
        case 4:
            data[at:at] = piece
        case 5:
            to = rng.randrange(len(data))
            data[to : to + len(piece)] = piece
        case 6:
            width = rng.choice((2, 4, 8))
            data[at : at + width] = (rng.choice(BOUNDARIES) & ((1 << 8 * width) - 1)).to_bytes(width, "little")
        case 7:
            data[at : at + length] = bytes(len(piece))
        case _:
            del data[at:]


def spliced(one: bytes, other: bytes, rng: Random) -> bytes:
    """The beginning of one, the end of the other."""
    return one[: rng.randrange(len(one) + 1)] + other[rng.randrange(len(other) + 1) :]


def joined(one: bytes, other: bytes, rng: Random) -> bytes:
    """One after the other, perhaps with something between them."""
    return one + rng.choice((b"", b"\0", rng.randbytes(30))) + other
