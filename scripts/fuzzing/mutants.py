"""One mutant for each number: made from honest files by one way of changing them or several, always the same for the same number."""

from __future__ import annotations

import copy
import struct
from collections.abc import Callable
from functools import cache
from random import Random
from typing import NamedTuple

import builders as b

from fuzzing import bytewise, legacywise, picklewise, tensorwise, zips, zipwise
from fuzzing.seeds import Seed, seeds


class Mutant(NamedTuple):
    """`hostile`: a call that would touch the marker was put into it last, where reading it as a pickle comes past."""

    body: bytes
    how: str
    hostile: bool


@cache
def _zips() -> tuple[tuple[Seed, zips.Zip], ...]:
    return tuple((seed, zips.taken_apart(seed.body)) for seed in seeds() if seed.body.startswith(b"PK"))


@cache
def _legacies() -> tuple[tuple[Seed, legacywise.Legacy], ...]:
    return tuple((seed, legacywise.taken_apart(seed.body)) for seed in seeds() if not seed.body.startswith(b"PK"))


def mutant(seed: str, number: int, marker: str) -> Mutant:
    """The mutant of this number. `marker` is the file that its payload, if it has one, would touch."""
    rng = Random(f"{seed}:{number}")
    return rng.choices(list(_WAYS), list(_WAYS.values()))[0](rng, marker)


def _by_bytes(rng: Random, marker: str) -> Mutant:
    seed = rng.choice(seeds())
    return Mutant(bytewise.changed(seed.body, rng), f"{seed.name}, bytes", False)


def _two_in_one(rng: Random, marker: str) -> Mutant:
    one, other = rng.choice(seeds()), rng.choice(seeds())
    join = rng.choice((bytewise.spliced, bytewise.joined))
    return Mutant(join(one.body, other.body, rng), f"{one.name} and {other.name}, {join.__name__}", False)


def _by_records(rng: Random, marker: str) -> Mutant:
    seed, archive = copy.deepcopy(rng.choice(_zips()))
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        zipwise.changed(archive, rng)
    if rng.random() < 0.1:
        return Mutant(zipwise.merged(archive, copy.deepcopy(rng.choice(_zips())[1]), rng), f"{seed.name}, records, merged", False)
    return Mutant(archive.packed(), f"{seed.name}, records", False)


def _by_opcodes(rng: Random, marker: str) -> Mutant:
    return _repickled(rng, lambda ops: picklewise.changed(ops, rng), "opcodes", False)


def _with_payload(rng: Random, marker: str) -> Mutant:
    payload = picklewise.payload(marker, rng)

    def change(ops: picklewise.Ops) -> picklewise.Ops:
        ops = picklewise.changed(ops, rng) if rng.random() < 0.3 else ops
        return picklewise.with_payload(ops, payload, rng)

    return _repickled(rng, change, "payload", True)


def _repickled(rng: Random, change: Callable[[picklewise.Ops], picklewise.Ops], how: str, hostile: bool) -> Mutant:
    """A seed with one of its pickles changed, and all around it true again."""
    if rng.random() < 0.6:
        seed, archive = copy.deepcopy(rng.choice(_zips()))
        member = rng.choice([member for member in archive.members if member.name.endswith(".pkl")])
        member.replace(b"".join(change(picklewise.ops_of(member.inflated()))))
        if rng.random() < 0.1 and not hostile:
            zipwise.changed(archive, rng)
        return Mutant(archive.packed(), f"{seed.name}, {how}", hostile)
    seed, file = copy.deepcopy(rng.choice(_legacies()))
    at = rng.choice((3, 3, 3, rng.randrange(5)))
    file.pickles[at] = b"".join(change(picklewise.ops_of(file.pickles[at])))
    return Mutant(file.packed(), f"{seed.name}, {how} of pickle {at}", hostile)


def _by_parts(rng: Random, marker: str) -> Mutant:
    seed, file = copy.deepcopy(rng.choice(_legacies()))
    for _ in range(rng.choice((1, 1, 2))):
        legacywise.changed(file, rng)
    return Mutant(file.packed(), f"{seed.name}, parts", False)


def _by_tensors(rng: Random, marker: str) -> Mutant:
    return Mutant(tensorwise.generated(rng), "tensors", False)


def _by_values(rng: Random, marker: str) -> Mutant:
    """Other numbers in the storages: each bit pattern is as good as any other."""
    count = rng.randrange(1, 9)
    data = b"".join(struct.pack("<L", rng.choice((rng.randrange(1 << 32), 0, 0x7F800000, 0x7FC00001, 1, 0xFFFFFFFF))) for _ in range(count))
    pickle = b.pickled(b.dict_of((b.text("w"), b.tensor("0", (count,)))))
    return Mutant(b.archive(pickle, {"0": data}), "values", False)


def _of_nothing(rng: Random, marker: str) -> Mutant:
    """A pickle of random opcodes, in a container or alone."""
    pickle = picklewise.at_random(rng)
    match rng.randrange(3):
        case 0:
            return Mutant(b.archive(pickle, {"0": bytes(16), "1": bytes(16)}), "random pickle in a zip", False)
        case 1:
            return Mutant(b.legacy(pickle, {}), "random pickle in a legacy file", False)
        case _:
            return Mutant(pickle, "random pickle", False)


_WAYS: dict[Callable[[Random, str], Mutant], int] = {
    _by_bytes: 14,
    _two_in_one: 4,
    _by_records: 22,
    _by_opcodes: 22,
    _with_payload: 10,
    _by_parts: 5,
    _by_tensors: 15,
    _by_values: 2,
    _of_nothing: 6,
}
