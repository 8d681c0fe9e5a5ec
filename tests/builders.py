"""Builds .pt files without torch: honest ones, and ones that do what torch would never write. Payloads touch a marker file at most."""

from __future__ import annotations

import io
import random
import struct
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

PROTO2, STOP = b"\x80\x02", b"."
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C


# Opcodes, each leaving one object on the stack


def text(value: str) -> bytes:
    raw = value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def integer(value: int) -> bytes:
    if -(1 << 31) <= value < 1 << 31:
        return b"J" + struct.pack("<i", value)
    raw = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(raw)]) + raw


def tuple_of(*items: bytes) -> bytes:
    return b"(" + b"".join(items) + b"t"


def list_of(*items: bytes) -> bytes:
    return b"](" + b"".join(items) + b"e"


def dict_of(*pairs: tuple[bytes, bytes]) -> bytes:
    return b"}(" + b"".join(key + value for key, value in pairs) + b"u"


def name(full_name: str) -> bytes:
    """GLOBAL."""
    module, _, attribute = full_name.rpartition(".")
    return b"c" + module.encode() + b"\n" + attribute.encode() + b"\n"


def call(full_name: str, *args: bytes) -> bytes:
    """REDUCE."""
    return name(full_name) + tuple_of(*args) + b"R"


def new(full_name: str, *args: bytes) -> bytes:
    """NEWOBJ."""
    return name(full_name) + tuple_of(*args) + b"\x81"


def ordered_dict(*pairs: tuple[bytes, bytes]) -> bytes:
    return call("collections.OrderedDict") + b"(" + b"".join(key + value for key, value in pairs) + b"u"


def touch(marker: Path) -> bytes:
    """What would run `touch MARKER` if anybody loaded it."""
    return call("posix.system", text(f"touch {marker}"))


def strides_of(shape: Sequence[int]) -> list[int]:
    strides = [1] * len(shape)
    for axis in range(len(shape) - 2, -1, -1):
        strides[axis] = strides[axis + 1] * shape[axis + 1]
    return strides


def tensor(
    key: str,
    shape: Sequence[int],
    *,
    kind: str = "torch.FloatStorage",
    numel: int | None = None,
    stride: Sequence[int] | None = None,
    offset: int = 0,
) -> bytes:
    count = numel
    if count is None:
        count = 1
        for n in shape:
            count *= n
    storage = tuple_of(text("storage"), name(kind), text(key), text("cpu"), integer(count)) + b"Q"
    strides = strides_of(shape) if stride is None else stride
    shapes = tuple_of(*map(integer, shape)), tuple_of(*map(integer, strides))
    return call("torch._utils._rebuild_tensor_v2", storage, integer(offset), *shapes, b"\x89", call("collections.OrderedDict"))


def floats(count: int, seed: int = 0) -> bytes:
    rng = random.Random(seed)
    return struct.pack(f"<{count}f", *(rng.gauss(0, 0.1) for _ in range(count)))


# Containers


def archive(
    pickle: bytes, storages: Mapping[str, bytes], *, root: str = "archive", extra: Mapping[str, bytes] | None = None, deflate: bool = False
) -> bytes:
    """A zip as torch ≥ 1.6 lays it out, written by zipfile."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED if deflate else zipfile.ZIP_STORED) as zipped:
        zipped.writestr(f"{root}/data.pkl", pickle)
        zipped.writestr(f"{root}/byteorder", "little")
        for key, data in storages.items():
            zipped.writestr(f"{root}/data/{key}", data)
        zipped.writestr(f"{root}/version", "3\n")
        for member, data in (extra or {}).items():
            zipped.writestr(member, data)
    return out.getvalue()


def legacy(pickle: bytes, storages: Mapping[str, bytes], *, item_bytes: int = 4, system: bytes | None = None) -> bytes:
    """The format before 1.6: magic, protocol, system, object, keys, storages."""
    about = dict_of((text("protocol_version"), integer(1001)), (text("little_endian"), b"\x88"), (text("type_sizes"), dict_of()))
    parts = [integer(LEGACY_MAGIC), integer(1001), system or about]
    head = b"".join(PROTO2 + part + STOP for part in parts)
    keys = PROTO2 + list_of(*map(text, storages)) + STOP
    return head + pickle + keys + b"".join(struct.pack("<q", len(data) // item_bytes) + data for data in storages.values())


def pickled(body: bytes) -> bytes:
    return PROTO2 + body + STOP


def state_dict(shapes: Mapping[str, Sequence[int]], seed: int = 0, *more: tuple[bytes, bytes]) -> bytes:
    """A state_dict of random float32 tensors; `more` are further pairs of the dict."""
    pairs, storages = [], {}
    for i, (key, shape) in enumerate(shapes.items()):
        count = 1
        for n in shape:
            count *= n
        pairs.append((text(key), tensor(str(i), shape)))
        storages[str(i)] = floats(count, seed + i)
    return archive(pickled(ordered_dict(*pairs, *more)), storages)


def logistic(seed: int = 0) -> bytes:
    """A logistic regression for the digits."""
    return state_dict({"weight": (10, 64), "bias": (10,)}, seed)


def unsafe(marker: Path) -> bytes:
    """An honest state_dict with one call in it that would touch `marker`."""
    return state_dict({"weight": (10, 64), "bias": (10,)}, 0, (text("x"), touch(marker)))
