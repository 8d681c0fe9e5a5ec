"""Legacy files taken apart into their five pickles and their storages, changed, and put together again."""

from __future__ import annotations

import pickletools
import struct
from dataclasses import dataclass
from random import Random

from fuzzing.picklewise import NUMBERS


@dataclass
class Legacy:
    """magic, protocol, system, object, keys; then each storage with its count of elements in front."""

    pickles: list[bytes]
    storages: list[tuple[int, bytes]]
    tail: bytes = b""

    def packed(self) -> bytes:
        return b"".join([*self.pickles, *((count % (1 << 64)).to_bytes(8, "little") + data for count, data in self.storages), self.tail])


def taken_apart(body: bytes) -> Legacy:
    """An honest legacy file, as torch or the builders write it."""
    at, pickles = 0, []
    for _ in range(5):
        end = at + max(place for _, _, place in pickletools.genops(body[at:])) + 1
        pickles.append(body[at:end])
        at = end
    keys = sum("UNICODE" in op.name for op, _, _ in pickletools.genops(pickles[4]))
    rest, storages = body[at:], []
    for size in _sizes(rest, keys):
        storages.append((struct.unpack_from("<q", rest)[0], rest[8 : 8 + size]))
        rest = rest[8 + size :]
    return Legacy(pickles, storages, rest)


def _sizes(rest: bytes, left: int) -> list[int]:
    """The bytes of each storage. Their types stand in the object's pickle: here the item sizes that use up the file are found by trying."""
    if left == 0:
        return []
    count = struct.unpack_from("<q", rest)[0]
    for item in (4, 8, 1, 2, 16):
        after = rest[8 + count * item :]
        if 8 + count * item <= len(rest) and (left == 1) == (not after):
            try:
                return [count * item, *_sizes(after, left - 1)]
            except (struct.error, LookupError):
                continue
    raise LookupError("no item sizes fit")


def changed(file: Legacy, rng: Random) -> None:
    """One change of one kind, in place."""
    match rng.randrange(7):
        case 0 if file.storages:
            at = rng.randrange(len(file.storages))
            count, data = file.storages[at]
            file.storages[at] = (rng.choice([n for n in (count + 1, count - 1, *NUMBERS) if -(1 << 63) <= n < 1 << 63]), data)
        case 1 if file.storages:
            rng.shuffle(file.storages)
        case 2 if file.storages:
            at = rng.randrange(len(file.storages))
            count, data = file.storages[at]
            file.storages[at] = (count, rng.choice((data[:-1], data + b"\0", b"", bytes(len(data)))))
        case 3:
            i, j = rng.randrange(len(file.pickles)), rng.randrange(len(file.pickles))
            file.pickles[i], file.pickles[j] = file.pickles[j], file.pickles[i]
        case 4:
            file.pickles.insert(rng.randrange(6), rng.choice(file.pickles))
        case 5 if len(file.pickles) > 1:
            del file.pickles[rng.randrange(len(file.pickles))]
        case _:
            file.tail += rng.choice((b"\0", bytes(8), file.packed()))
