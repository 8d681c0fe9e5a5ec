"""Files whose tensors are described in every way that may or may not fit their storages."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import builders as b

from fuzzing.picklewise import NUMBERS

KINDS = {
    "Float": 4,
    "Double": 8,
    "Half": 2,
    "BFloat16": 2,
    "Long": 8,
    "Int": 4,
    "Short": 2,
    "Char": 1,
    "Byte": 1,
    "Bool": 1,
    "ComplexFloat": 8,
}
_KEYS = ("0", "1", "2", "00", "", "0\0", "data.pkl", "../0", "é", "0 ")
_PLACES = ("fc.weight", "fc.bias", "weight", "module.a", "module.module.a", "_orig_mod.a", "x", "running_var", "", "a\0b", "a\nb", "é", "1")
_WRAPS = ("state_dict", "model", "MODEL", "net", "optimizer", "ema", "x", "weights")


def generated(rng: Random) -> bytes:
    """A small file of its own: a state_dict or a checkpoint, zip or legacy, honest in some places and not in others."""
    storages: dict[str, bytes] = {}
    kinds: dict[str, str] = {}
    for key in rng.sample(_KEYS, rng.randrange(1, 4)) if rng.random() < 0.1 else ("0", "1", "2"):
        kinds[key] = rng.choice(("Float", "Float", *KINDS))
        storages[key] = bytes(
            rng.randrange(2 if kinds[key] == "Bool" else 256) for _ in range(KINDS[kinds[key]] * rng.choice((0, 1, 6, 12)))
        )
    pairs = [(_key(rng), _tensor(rng, storages, kinds)) for _ in range(rng.randrange(1, 6))]
    if rng.random() < 0.2:
        pairs.append((_key(rng), b.integer(rng.choice(NUMBERS))))
    body = b.ordered_dict(*pairs) if rng.random() < 0.5 else b.dict_of(*pairs)
    if rng.random() < 0.4:
        other = b.dict_of((b.text("a"), _tensor(rng, storages, kinds)))
        wraps = rng.sample(_WRAPS, 2)
        body = b.dict_of((b.text(wraps[0]), body), (b.text(wraps[1]), rng.choice((other, b.integer(3), b"N"))))
    if rng.random() < 0.3:
        used = list(storages)
        return b.legacy(b.pickled(body), {key: storages[key] for key in used}, item_bytes=KINDS[kinds[used[0]]])
    return b.archive(b.pickled(body), storages, deflate=rng.random() < 0.2)


def _key(rng: Random) -> bytes:
    return b.integer(rng.choice((0, 1, 7, -1))) if rng.random() < 0.05 else b.text(rng.choice(_PLACES))


def _tensor(rng: Random, storages: dict[str, bytes], kinds: dict[str, str]) -> bytes:
    key = rng.choice(list(storages))
    kind, numel = kinds[key], len(storages[key]) // KINDS[kinds[key]]
    shape, stride, offset = _fitting(numel, rng)
    if rng.random() < 0.35:
        match rng.randrange(6):
            case 0:
                shape = _disturbed(shape, rng)
            case 1:
                stride = _disturbed(stride, rng)
            case 2:
                offset = rng.choice((*NUMBERS, numel, numel - 1))
            case 3:
                numel = rng.choice((*NUMBERS, numel + 1, numel - 1))
            case 4:
                kind = rng.choice(list(KINDS))
            case _:
                key = rng.choice((*_KEYS, "3"))
    made = b.tensor(key, shape, kind=f"torch.{kind}Storage", numel=numel, stride=stride, offset=offset)
    if rng.random() < 0.1:
        hooks = rng.choice(
            (b.call("collections.OrderedDict"), b.dict_of(), b.dict_of((b.text("h"), b"N")), b"N", b.list_of(), b.integer(1))
        )
        return b.call("torch._utils._rebuild_parameter", made, rng.choice((b"\x88", b"\x89", b"N")), hooks)
    return made


def _fitting(numel: int, rng: Random) -> tuple[list[int], list[int], int]:
    """A shape, strides and an offset that lie within `numel` elements."""
    shape: list[int] = []
    stride: list[int] = []
    left = max(numel, 0)
    for _ in range(rng.randrange(4)):
        size = rng.choice((0, 1, 2, 3)) if numel == 0 else rng.choice((1, 2, 3))
        step = rng.choice((0, 1, 1, 2, 3))
        if (size - 1) * step >= left and size > 1:
            continue
        shape.append(size)
        stride.append(step)
        left -= max(size - 1, 0) * step
    if numel == 0 and 0 not in shape:
        return [0, *shape], [1, *stride], 0
    return shape, stride, rng.randrange(left) if left else 0


def _disturbed(dims: Sequence[int], rng: Random) -> list[int]:
    out = list(dims)
    if out and rng.random() < 0.8:
        out[rng.randrange(len(out))] = rng.choice(NUMBERS)
    else:
        out.append(rng.choice((0, 1, 2, 1 << 40)))
    return out
