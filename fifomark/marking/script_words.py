"""What a slot worker and the process that runs a TorchScript archive say to each other: JSON of bounded length, tensors as raw bytes behind
their heads. Nothing is ever unpickled from it."""

from __future__ import annotations

from math import prod
from multiprocessing.connection import Connection
from typing import Annotated, Literal, TypeVar

import msgspec
import torch
from msgspec import Meta
from torch import Tensor

from fifomark.core.record import Record

MAX_HEAD = 64 << 10  # bytes of a message that is no tensor
MAX_TENSOR = 2 << 30  # bytes of a tensor
MAX_WORDS = 2000  # characters of an error
_REAL = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
_WHOLE = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool)
_DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in (*_REAL, *_WHOLE)}
Size = Annotated[int, Meta(ge=0, le=1 << 40)]
Words = Annotated[str, Meta(max_length=MAX_WORDS)]


class Setup(Record):
    """How to run: what a mark depends on, and the limits of the process. `precision` is a dtype's name."""

    threads: int
    seed: int
    precision: str
    sandbox: Literal["auto", "required", "best-effort", "off"]
    memory_bytes: int | None
    cpu_seconds: int


class Head(Record):
    """What the bytes of a tensor are that follow, in the order of its elements."""

    dtype: str
    shape: Annotated[tuple[Size, ...], Meta(max_length=64)]


class Ask(Record):
    """With the bytes of its inputs. "run": the outputs · "macs", "peak_bytes": see fifomark.marking.cost."""

    what: Literal["run", "macs", "peak_bytes"]
    inputs: tuple[Head, ...]


class Ready(Record, tag="ready"):
    """Locked down, before the archive is read: the version of Landlock, and whether seccomp binds it. `trouble`: why it cannot be."""

    landlock: int = 0
    seccomp: bool = False
    trouble: Words | None = None


class Loaded(Record, tag="loaded"):
    """`constants`: how many bytes of tensors are in the code, not in the weights."""

    constants: Size


class Gave(Record, tag="gave"):
    """With the bytes of the outputs."""

    head: Head


class Counted(Record, tag="counted"):
    number: Annotated[int, Meta(ge=0, le=1 << 62)]


class Raised(Record, tag="raised"):
    """`memory`: there was not enough of it."""

    kind: Words
    words: Words
    memory: bool = False


class NoTensor(Record, tag="no tensor"):
    """The model gave a `kind` of thing instead of a plain tensor."""

    kind: Words


Answer = Ready | Loaded | Gave | Counted | Raised | NoTensor
T = TypeVar("T")


def send(line: Connection, message: Record, tensors: tuple[Tensor, ...] = ()) -> None:
    """OSError where the other end is gone."""
    line.send_bytes(msgspec.json.encode(message))
    for tensor in tensors:
        flat = tensor.detach().contiguous().reshape(-1)
        line.send_bytes(flat.view(torch.uint8).numpy().data)


def receive(line: Connection, kind: type[T]) -> T:
    """The next message. EOFError or OSError where the other end is gone or says too much, msgspec.DecodeError where it says nonsense."""
    return msgspec.json.decode(line.recv_bytes(MAX_HEAD), type=kind)


def receive_tensor(line: Connection, head: Head) -> Tensor:
    """The tensor that `head` announced; as of `receive`, and ValueError where its bytes are not as many as it says."""
    if head.dtype not in _DTYPES or prod(head.shape) * _DTYPES[head.dtype].itemsize > MAX_TENSOR:
        raise ValueError(f"no tensor of {head.dtype} and shape {head.shape} can come over here")
    dtype = _DTYPES[head.dtype]
    body = bytearray(line.recv_bytes(MAX_TENSOR))
    if len(body) != prod(head.shape) * dtype.itemsize:
        raise ValueError(f"{len(body)} bytes came for {head.dtype} of shape {head.shape}")
    return torch.frombuffer(body, dtype=dtype).reshape(head.shape) if body else torch.empty(head.shape, dtype=dtype)


def head_of(tensor: Tensor) -> Head | None:
    """None for what cannot be sent: a kind of number that no model is marked by, or too much of it."""
    dtype = str(tensor.dtype).removeprefix("torch.")
    if tensor.layout is not torch.strided or dtype not in _DTYPES or tensor.numel() * tensor.itemsize > MAX_TENSOR:
        return None
    return Head(dtype=dtype, shape=tuple(tensor.shape))
