"""What the parser child says of a file: the border between the process that reads hostile structure and the one that trusts nothing.

The child (torchfile.describe, standard library only) prints this as JSON; here it is decoded strictly. A description is a claim:
`sanitizer.checks` compares every range in it with the file before a byte is taken.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from fifomark.core.layers import Layer
from fifomark.core.record import Record

Size = Annotated[int, Meta(ge=0, lt=1 << 62)]
Short = Annotated[str, Meta(max_length=400)]
Text = Annotated[str, Meta(max_length=4000)]
Dims = Annotated[tuple[Size, ...], Meta(max_length=64)]


class Row(Record, array_like=True):
    """What there may be fifty thousand of in a file is told as its values alone, in the order of its fields."""


class Problem(Record):
    """Something wrong with the file's structure, as a code of the catalogue (FM1xx to FM3xx)."""

    code: Annotated[str, Meta(pattern="^FM[1-3][0-9]{2}$")]
    where: Short
    message: Text
    evidence: Text | None = None


class GlobalUse(Record):
    """One global that a pickle names, and every way in which it is used there.

    reference: named (loading imports its module) · call: called as a function (REDUCE, INST, OBJ) · new: built as a class (NEWOBJ) ·
    module: built without arguments and given a state that holds `_parameters` and `_modules` · script: the same inside a TorchScript
    archive · storage: the type in a persistent id · dtype: passed as one · attribute: getattr, its result being listed as a global ·
    patch: something is put into the global itself · misuse: given what no honest file gives it (torchfile.arguments).
    """

    name: Short
    where: Short
    uses: tuple[Literal["reference", "call", "new", "module", "script", "storage", "dtype", "attribute", "patch", "misuse"], ...]


class Call(Record):
    """What loading would have called, with resolved arguments, capped: `posix.system('touch /tmp/x')`."""

    name: Short
    text: Text
    where: Short


class Storage(Row):
    """Raw bytes in the file. `start` and `stored` bound them there; `nbytes` is their size once inflated (method 8), else the same."""

    key: Short
    start: Size
    stored: Size
    nbytes: Size
    method: Literal[0, 8]
    crc32: Annotated[int, Meta(ge=0, lt=1 << 32)] | None


class Tensor(Row):
    """A view of a storage. `stride` and `offset` are in elements of `dtype` ("float32", torch's name)."""

    storage: Size
    dtype: Short
    shape: Dims
    stride: Dims
    offset: Size


class Entry(Row):
    """A name for a tensor. Two entries with one tensor, or two tensors alike, are a tie."""

    name: Annotated[str, Meta(max_length=4000)]
    tensor: Size


class Other(Row):
    """Something in a group that is no tensor: its name and what it is ("int", "argparse.Namespace", "mapping of 3")."""

    name: Short
    what: Short


class Group(Record):
    """A part of the file that holds tensors.

    mapping: a dict whose values are tensors · module: a pickled nn.Module (names from _parameters, _buffers and _modules, dotted,
    non-persistent buffers left out) · script: a TorchScript object (attributes, dotted) · sequence: a list or tuple.
    `path` is the keys that lead there from the root, () for the root itself.
    """

    path: Annotated[tuple[Short, ...], Meta(max_length=64)]
    kind: Literal["mapping", "module", "script", "sequence"]
    entries: tuple[Entry, ...]
    others: tuple[Other, ...] = ()


class Member(Row):
    """A record of the archive that no tensor and no pickle accounts for."""

    name: Short
    nbytes: Size


class Description(Record):
    """`container` is None where the file is no torch file; `foreign` then names what it is instead ("a safetensors file"), if known.

    `root` says what the outermost object is ("mapping", "module", "script", or a type name); `root_keys` its keys, capped.
    """

    container: Literal["zip", "legacy", "torchscript"] | None
    foreign: Short | None
    root: Short | None
    root_keys: tuple[Short, ...]
    problems: tuple[Problem, ...]
    globals: tuple[GlobalUse, ...]
    calls: tuple[Call, ...]
    storages: tuple[Storage, ...]
    tensors: tuple[Tensor, ...]
    groups: tuple[Group, ...]
    layers: tuple[Layer, ...]
    members: tuple[Member, ...]


def decode(body: bytes) -> Description:
    """msgspec.ValidationError or DecodeError where `body` is no description."""
    return msgspec.json.decode(body, type=Description)
