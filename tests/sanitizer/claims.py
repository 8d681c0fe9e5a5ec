"""Descriptions written by hand, for the rules that judge them."""

from __future__ import annotations

from typing import Any

from fifomark.torchfile.description import Call, Description, Entry, GlobalUse, Group, Other, Storage, Tensor


def description(**fields: Any) -> Description:
    """An empty zip, with `fields` in place of its own."""
    empty: dict[str, Any] = dict.fromkeys(
        ("root_keys", "problems", "globals", "calls", "storages", "tensors", "groups", "layers", "members"), ()
    )
    return Description(**{"container": "zip", "foreign": None, "root": "mapping", **empty, **fields})


def storage(nbytes: int = 400, start: int = 0, **fields: Any) -> Storage:
    return Storage(**{"key": str(start), "start": start, "stored": nbytes, "nbytes": nbytes, "method": 0, "crc32": None, **fields})


def tensor(
    shape: tuple[int, ...] = (10, 10), stride: tuple[int, ...] | None = None, offset: int = 0, storage: int = 0, dtype: str = "float32"
) -> Tensor:
    steps = [1]
    for size in reversed(shape[1:]):
        steps.insert(0, steps[0] * size)
    return Tensor(storage=storage, dtype=dtype, shape=shape, stride=tuple(steps[: len(shape)]) if stride is None else stride, offset=offset)


def entries(*names: str) -> tuple[Entry, ...]:
    return tuple(Entry(name=name, tensor=i) for i, name in enumerate(names))


def group(path: str, *names: str, kind: str = "mapping", others: tuple[str, ...] = ()) -> Group:
    """`path` dotted, "" for the root."""
    steps = tuple(path.split(".")) if path else ()
    return Group(path=steps, kind=kind, entries=entries(*names), others=tuple(Other(name=name, what="int") for name in others))  # type: ignore[arg-type]


def use(name: str, *uses: str) -> GlobalUse:
    return GlobalUse(name=name, where="data.pkl", uses=("reference", *uses))  # type: ignore[arg-type]


def call(text: str) -> Call:
    return Call(name=text.split("(")[0], text=text, where="data.pkl")
