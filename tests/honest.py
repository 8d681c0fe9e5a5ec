"""Files as people really save them: each shape with the weights that must come out of it, bit for bit, under these names."""

from __future__ import annotations

import collections
import contextlib
import datetime
import io
import pathlib
import random
import sys
import types
import warnings
from argparse import Namespace
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import nn

Weights = dict[str, torch.Tensor]
Shape = Callable[[], tuple[Any, Weights]]

SHAPES: dict[str, Shape] = {}
NEWER: set[str] = set()  # what the format from before torch 1.6 cannot hold


def shape(name: str, *, legacy: bool = True) -> Callable[[Shape], Shape]:
    def kept(make: Shape) -> Shape:
        assert name not in SHAPES
        SHAPES[name] = make
        if not legacy:
            NEWER.add(name)
        return make

    return kept


def saved(thing: Any, *, zipped: bool = True, protocol: int = 2) -> bytes:
    out = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.save(thing, out, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    return out.getvalue()


@contextlib.contextmanager
def homes(*classes: type) -> Iterator[None]:
    """While this lasts, pickle finds these classes where they say that they live, in modules that need not be installed."""
    modules: dict[str, types.ModuleType] = {}
    for cls in classes:
        steps = cls.__module__.split(".")
        for i in range(1, len(steps) + 1):
            name = ".".join(steps[:i])
            if name not in sys.modules:
                modules[name] = types.ModuleType(name)
    with mock.patch.dict(sys.modules, modules), contextlib.ExitStack() as stack:
        for cls in classes:
            stack.enter_context(mock.patch.object(sys.modules[cls.__module__], cls.__name__, cls, create=True))
        yield


def living(full_name: str, **fields: Any) -> type:
    """A class of a package that is not installed."""
    module, _, name = full_name.rpartition(".")
    return type(name, (), {"__module__": module, **fields})


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Net(nn.Module):
    """A network of a student's own."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 10)
        self.register_buffer("scratch", torch.zeros(2), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(torch.relu(self.norm(self.conv(x))).mean((2, 3)))
        return out


class Activated(nn.Module):
    """Keeps functions as attributes."""

    def __init__(self, *functions: Any) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 4)
        self.functions = functions
        self.act = functions[0]


def net(seed: int = 0) -> Net:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Net()


def plain(seed: int = 0) -> Weights:
    return dict(net(seed).state_dict())


def trained() -> tuple[Net, torch.optim.Optimizer, Any]:
    model = net()
    optimizer = torch.optim.AdamW(model.parameters())
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [2, 4])
    model(torch.randn(2, 1, 5, 5, generator=seeded())).sum().backward()
    optimizer.step()
    scheduler.step()
    return model, optimizer, scheduler


def prefixed(prefix: str) -> Weights:
    return {prefix + name: tensor for name, tensor in plain().items()}


# state_dicts


@shape("an OrderedDict as state_dict() returns it")
def _() -> tuple[Any, Weights]:
    return net().state_dict(), plain()


for _prefix in ("module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "module.module.", "module._orig_mod.module."):
    SHAPES[f"every name begins with {_prefix}"] = lambda prefix=_prefix: (prefixed(prefix), plain())  # type: ignore[misc]


@shape("a defaultdict of tensors")
def _() -> tuple[Any, Weights]:
    return collections.defaultdict(list, plain()), plain()


@shape("names with spaces, dots and other alphabets")
def _() -> tuple[Any, Weights]:
    named = {"my layer.weight": torch.ones(2, 3), "größe.重み": torch.ones(3), "a/b.weight": torch.zeros(1), "": torch.ones(1)}
    return named, named


@shape("names that are integers")
def _() -> tuple[Any, Weights]:
    return {0: torch.ones(2, 3), 1: torch.arange(3.0)}, {"0": torch.ones(2, 3), "1": torch.arange(3.0)}


@shape("a bare parameter in a dict")
def _() -> tuple[Any, Weights]:
    value = torch.randn(3, 4, generator=seeded())
    return {"w": nn.Parameter(value)}, {"w": value}


@shape("a counter and an epoch beside the weights")
def _() -> tuple[Any, Weights]:
    return {**plain(), "epoch": 3, "acc": 0.98, "classes": ["cat", "dog"], "best": None}, plain()


@shape("tied weights")
def _() -> tuple[Any, Weights]:
    weight = torch.randn(10, 4, generator=seeded())
    both = {"emb.weight": weight, "head.weight": weight, "part.weight": weight[2:5]}
    return both, both


@shape("permuted, transposed, stepped and sliced views")
def _() -> tuple[Any, Weights]:
    base = torch.randn(6, 8, generator=seeded())
    views = {
        "last": torch.randn(2, 3, 4, 5, generator=seeded()).contiguous(memory_format=torch.channels_last),
        "permuted": torch.randn(3, 4, 5, generator=seeded()).permute(2, 0, 1),
        "transposed": base.t(),
        "steps": base[:, ::3],
        "slice": base[1:4, 2:5],
    }
    return views, views


@shape("a slice that drags a large storage along")
def _() -> tuple[Any, Weights]:
    whole = torch.randn(500, 500, generator=seeded())
    return {"w": whole[:2, :2]}, {"w": whole[:2, :2]}


@shape("a small expanded bias")
def _() -> tuple[Any, Weights]:
    row = torch.randn(1, 4, generator=seeded()).expand(5, 4)
    return {"w": row}, {"w": row}


@shape("tensors of no dimension and of no element")
def _() -> tuple[Any, Weights]:
    odd = {"scalar": torch.tensor(3.5), "empty": torch.empty(0, 3), "nothing": torch.empty(0), "count": torch.tensor(7)}
    return odd, odd


@shape("half, bfloat16 and double precision")
def _() -> tuple[Any, Weights]:
    values = torch.randn(3, 4, generator=seeded())
    kinds = {f"{dtype}.weight": values.to(dtype) for dtype in (torch.float16, torch.bfloat16, torch.float64)}
    return kinds, kinds


@shape("complex numbers, integers and booleans")
def _() -> tuple[Any, Weights]:
    kinds = {str(dtype): torch.arange(6).to(dtype) for dtype in (torch.complex64, torch.complex128, torch.int32, torch.uint8, torch.bool)}
    return kinds, kinds


@shape("float8 and unsigned integers", legacy=False)
def _() -> tuple[Any, Weights]:
    kinds = {str(dtype): torch.arange(6).to(dtype) for dtype in (torch.float8_e4m3fn, torch.float8_e5m2, torch.uint16, torch.uint32)}
    return kinds, kinds


@shape("a parameter and a tensor that carry attributes")
def _() -> tuple[Any, Weights]:
    values = torch.randn(3, 4, generator=seeded())
    parameter, tensor = nn.Parameter(values.clone()), values.clone()
    parameter.sharded = tensor.note = True  # type: ignore[attr-defined]
    return {"p": parameter, "t": tensor}, {"p": values, "t": values}


@shape("a Buffer of torch's own class")
def _() -> tuple[Any, Weights]:
    values = torch.randn(3, generator=seeded())
    return {"b": nn.Buffer(values.clone()), "w": values}, {"b": values, "w": values}


@shape("old and new weight norm, and spectral norm")
def _() -> tuple[Any, Weights]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = nn.Sequential(
            nn.utils.weight_norm(nn.Linear(4, 4)),
            nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)),
            nn.utils.spectral_norm(nn.Linear(4, 4)),
            nn.utils.parametrizations.spectral_norm(nn.Linear(4, 4)),
        )
    return model.state_dict(), dict(model.state_dict())


@shape("a pruned layer")
def _() -> tuple[Any, Weights]:
    from torch.nn.utils import prune

    model = nn.Sequential(nn.Linear(4, 4))
    prune.random_unstructured(model[0], "weight", 0.5)
    return model.state_dict(), dict(model.state_dict())


# Checkpoints

KNOWN = ("model_state_dict", "state_dict", "model_state", "model", "net", "network", "weights", "params", "module", "model_weights")
for _key in (*KNOWN, "net_state_dict", "generator_state_dict", "classifier", "best_model", "parameters", "my_own_key"):
    SHAPES[f"weights under {_key}"] = lambda key=_key: ({key: plain(), "epoch": 3}, plain())  # type: ignore[misc]


@shape("weights beside optimizer, scheduler, scaler and random states")
def _() -> tuple[Any, Weights]:
    model, optimizer, scheduler = trained()
    numpy_state = np.random.RandomState(0).get_state()
    checkpoint = {
        "epoch": 3,
        "loss": torch.tensor(0.5),
        "model_state_dict": model.state_dict(),
        "optimizer_state_dict": optimizer.state_dict(),
        "lr_scheduler": scheduler.state_dict(),
        "scaler": {"scale": 65536.0, "growth_factor": 2.0},
        "rng_state": torch.get_rng_state(),
        "cuda_rng_state": [torch.get_rng_state()],
        "python_rng_state": random.Random(0).getstate(),
        "numpy_rng_state": numpy_state,
        "generator": torch.Generator().get_state(),
    }
    return checkpoint, dict(model.state_dict())


@shape("a checkpoint inside a checkpoint")
def _() -> tuple[Any, Weights]:
    return {"checkpoint": {"model": plain(), "epoch": 1}, "version": torch.__version__}, plain()


@shape("a whole module, optimizer and scheduler in a checkpoint")
def _() -> tuple[Any, Weights]:
    model, optimizer, scheduler = trained()
    return {"model": model, "optimizer": optimizer, "scheduler": scheduler, "epoch": 1}, dict(model.state_dict())


@shape("numbers, times, paths and settings beside the weights")
def _() -> tuple[Any, Weights]:
    beside = {
        "accuracy": np.float64(0.9),
        "steps": np.int64(7),
        "curve": np.arange(4.0),
        "confusion": np.eye(2, dtype=np.float32),
        "when": datetime.datetime(2024, 1, 2, 3, 4),
        "took": datetime.timedelta(seconds=3),
        "utc": datetime.datetime(2024, 1, 2, tzinfo=datetime.UTC),
        "path": pathlib.Path("runs/1"),
        "args": Namespace(lr=0.1, data=pathlib.Path("x")),
        "config": types.SimpleNamespace(depth=3),
        "torch": torch.__version__,
        "dtype": torch.float16,
        "device": torch.device("cuda:0"),
        "shape": torch.Size([1, 2]),
        "counts": collections.Counter(a=1),
        "history": collections.defaultdict(list, loss=[1.0]),
        "window": collections.deque([1.0], maxlen=3),
        "classes": {"a", "b"},
        "frozen": frozenset({1}),
        "range": range(3),
        "bytes": b"abc",
        "complex": 1j,
    }
    return {"state_dict": plain(), **beside}, plain()


@shape("a checkpoint of Lightning's")
def _() -> tuple[Any, Weights]:
    _, optimizer, _ = trained()
    checkpoint = {
        "epoch": 3,
        "global_step": 100,
        "pytorch-lightning_version": "2.4.0",
        "state_dict": prefixed("model."),
        "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"total": {"ready": 1}}}},
        "callbacks": {
            "ModelCheckpoint{'monitor': None}": {"best_model_score": torch.tensor(0.5), "best_k_models": {"a": torch.tensor(1.0)}}
        },
        "optimizer_states": [optimizer.state_dict()],
        "lr_schedulers": [],
        "hparams_name": "kwargs",
        "hyper_parameters": {"lr": 0.1, "act": nn.ReLU, "loss": nn.CrossEntropyLoss()},
    }
    return checkpoint, plain()


def ema(*keys: str) -> tuple[Any, Weights]:
    return {**{key: plain(int("ema" in key)) for key in keys}, "epoch": 1}, plain()


EMA_PAIRS = (
    ("state_dict", "state_dict_ema"),
    ("model", "model_ema"),
    ("model", "ema"),
    ("params", "params_ema"),
    ("model_state_dict", "ema_state_dict"),
    ("my_net", "my_net_ema"),
    ("ema_my_net", "my_net"),
)
for _pair in EMA_PAIRS:
    SHAPES[f"{_pair[0]} and {_pair[1]}"] = lambda pair=_pair: ema(*pair)  # type: ignore[misc]


# Whole modules


@shape("a whole module of a class of one's own")
def _() -> tuple[Any, Weights]:
    return net(), plain()


@shape("a whole module of stock layers")
def _() -> tuple[Any, Weights]:
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, activation="gelu"), 1, enable_nested_tensor=False)
    model = nn.ModuleDict({"a": nn.Sequential(encoder, nn.LSTM(8, 4), nn.Softmax(-1)), "b": nn.ParameterList([torch.ones(2)])})
    return model, dict(model.state_dict())


@shape("a module wrapped by DataParallel")
def _() -> tuple[Any, Weights]:
    return nn.DataParallel(net()), plain()


@shape("an averaged model of swa_utils")
def _() -> tuple[Any, Weights]:
    averaged = torch.optim.swa_utils.AveragedModel(net())
    return averaged.state_dict(), dict(averaged.state_dict())


@shape("a whole module that keeps functions of torch as attributes")
def _() -> tuple[Any, Weights]:
    functional, init = torch.nn.functional, nn.init
    model = Activated(
        *(torch.tanh, torch.relu, torch.sigmoid, torch.softmax, torch.selu, torch.prelu, torch.abs, torch.sin, torch.exp),
        *(functional.relu, functional.gelu, functional.silu, functional.leaky_relu, functional.logsigmoid, functional.elu),
        *(functional.cross_entropy, functional.mse_loss, functional.dropout, functional.normalize, functional.interpolate),
        *(functional.linear, functional.conv2d, functional.softmax, functional.pad, functional.softplus, torch.Tensor.tanh),
        *(init.xavier_uniform_, init.kaiming_normal_, init.normal_, init.zeros_, init.orthogonal_),
    )
    return model, dict(model.state_dict())


@shape("a whole module with old weight norm and spectral norm")
def _() -> tuple[Any, Weights]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = nn.Sequential(nn.utils.weight_norm(nn.Linear(4, 4)), nn.utils.spectral_norm(nn.Linear(4, 4)))
    return model, dict(model.state_dict())


@shape("a whole pruned module")
def _() -> tuple[Any, Weights]:
    from torch.nn.utils import prune

    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    prune.l1_unstructured(model[0], "weight", 2)
    prune.random_unstructured(model[1], "weight", 0.5)
    return model, dict(model.state_dict())


@shape("a whole averaged model")
def _() -> tuple[Any, Weights]:
    averaged = torch.optim.swa_utils.AveragedModel(nn.Sequential(nn.Linear(4, 4)))
    return averaged, dict(averaged.state_dict())
