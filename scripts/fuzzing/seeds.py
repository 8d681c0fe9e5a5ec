"""The honest files that are changed: what torch.save makes of small models in every container, and what the tests' builders make."""

from __future__ import annotations

import io
import warnings
from collections import OrderedDict
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

import builders
import torch
from torch import nn

from fifomark.torchfile.dtypes import DTYPES


class Seed(NamedTuple):
    name: str
    body: bytes


@cache
def seeds() -> tuple[Seed, ...]:
    """All of them, always in the same order and of the same bytes."""
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch deprecates what we want to have
        return tuple(_all())


def _all() -> Iterator[Seed]:
    for name, value in _values().items():
        yield Seed(f"{name} zip", _saved(value))
        yield Seed(f"{name} legacy", _saved(value, _use_new_zipfile_serialization=False))
    weights = _values()["state_dict"]
    for protocol in (3, 4, 5):
        yield Seed(f"protocol {protocol} zip", _saved(weights, pickle_protocol=protocol))
        yield Seed(f"protocol {protocol} legacy", _saved(weights, pickle_protocol=protocol, _use_new_zipfile_serialization=False))
    yield Seed("dtypes zip", _saved({name: torch.ones(3).to(getattr(torch, name)) for name in DTYPES if "float4" not in name}))
    yield Seed("script", _scripted(nn.Sequential(nn.Linear(3, 2), nn.ReLU())))
    pickle = builders.pickled(builders.ordered_dict(*((builders.text(n), builders.tensor(k, (2, 3))) for n, k in ("a0", "b1"))))
    storages = {"0": builders.floats(6), "1": builders.floats(6, 1)}
    yield Seed("built zip", builders.archive(pickle, storages))
    yield Seed("built deflated zip", builders.archive(pickle, storages, deflate=True))
    yield Seed("built legacy", builders.legacy(pickle, storages))


def _values() -> dict[str, Any]:
    base = torch.randn(4, 6)
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(2, 3))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    typed = {name: torch.ones(3).to(getattr(torch, name)) for name, dtype in DTYPES.items() if dtype.storage}
    views = {"t": base.t(), "slice": base[1:3, 2:5], "steps": base[:, ::3], "expanded": torch.ones(1, 2).expand(3, 2), "base": base}
    tied = torch.randn(3, 2)
    return {
        "state_dict": OrderedDict([("fc.weight", torch.randn(3, 2)), ("fc.bias", torch.randn(3))]),
        "network": net.state_dict(),
        "dtypes": typed,
        "views": views,
        "shapes": {"scalar": torch.tensor(1.5), "empty": torch.empty(0, 3), "deep": torch.randn(1, 2, 1, 2, 1), "ключ": torch.ones(1)},
        "ties": {"emb.weight": tied, "head.weight": tied, "copy.weight": tied.clone(), "part.weight": tied[:1]},
        "parameters": nn.ParameterDict({"a": nn.Parameter(torch.randn(2))})._parameters,
        "numbers": {1: torch.ones(2), 2: torch.zeros(2), "epoch": 3},
        "checkpoint": {"model_state_dict": net.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3, "loss": 0.5},
        "lightning": {"state_dict": {"model.w": torch.ones(2)}, "pytorch-lightning_version": "2.0", "epoch": 1, "callbacks": {}},
        "wrapped": {"module._orig_mod.weight": torch.ones(2, 2), "module._orig_mod.bias": torch.ones(2)},
        "module": net,
        "list": [torch.ones(2), {"weights": {"a": torch.ones(3)}}],
        "sparse": {"s": torch.eye(2).to_sparse(), "w": torch.ones(2)},
    }


def _saved(value: Any, **options: Any) -> bytes:
    out = io.BytesIO()
    torch.save(value, out, **options)
    return out.getvalue()


def _scripted(module: nn.Module) -> bytes:
    out = io.BytesIO()
    torch.jit.save(torch.jit.trace(module, torch.ones(1, 3)), out)
    return out.getvalue()
