"""The layers of a declared convolutional network as torch modules, tried on an example that has a shape and no numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from fifomark.core.text import shown
from fifomark.families import nets
from fifomark.families.cnn_spec import Entry
from fifomark.families.layers import Kind, Layers, Leaf

_AS_LISTED = "Build the model with the layers that the task lists, and train it again."
_CHECK_INPUT = "Check the input size that the task asks for, and the layers that it lists."


def build(family: str, layers: Layers, entries: Sequence[Entry], taken: Mapping[int, Leaf], input_shape: tuple[int, ...]) -> nets.Net:
    """`taken`: the leaf of each entry that has parameters, by its position.

    CannotBuild with findings where an entry and its leaf differ, or where what arrives at a layer has not the shape that it takes.
    """
    model = nets.Assembly(family, layers)
    first = next((leaf for leaf in taken.values() if leaf.kind is Kind.CONV), None)
    if first is not None and first.shape[1] == 1 and len(input_shape) == len(first.shape) - 2:
        input_shape = (1, *input_shape)
        model.then(nets.one_channel)
        model.suppose(f"examples are given a channel axis: {first} takes one channel")
    if layers.of(Kind.BATCHNORM):
        model.suppose("batch norm eps = 1e-05 (torch's default) where `layers` does not say")
    if [leaf.path for leaf in layers.leaves if leaf.kind is not Kind.COUNTER] != [taken[at].path for at in sorted(taken)]:
        model.suppose("convolutions, norms and linear layers are each taken in the order of the file, whatever stands between them there")
    x = torch.empty((2, *input_shape), device="meta")  # two examples without numbers: a misfit is said of the layer where it happens
    for entry in entries:
        leaf = taken.get(entry.at)
        module = _parametrised(model, entry, leaf, x.shape[1:]) if leaf else _plain(entry)
        x = _tried(model, entry, module, x, leaf or next(iter(taken.values())))
        model.then(model.hold(leaf.path, module) if leaf else module)
    return model.net()


def _tried(model: nets.Assembly, entry: Entry, module: nn.Module, x: torch.Tensor, anchor: Leaf) -> torch.Tensor:
    try:
        output: torch.Tensor = module.eval()(x)
    except (RuntimeError, ValueError, IndexError) as e:
        arrives = _times(tuple(x.shape[1:]))
        model.refuse(anchor, f"{entry} does not fit what arrives there, {arrives} an example ({shown(str(e))})", _CHECK_INPUT)
    return output


def _parametrised(model: nets.Assembly, entry: Entry, leaf: Leaf, arrives: Sequence[int]) -> nn.Module:
    options = dict(entry.options)
    if entry.lane == "conv":
        _check_kernel(model, entry, leaf)
        del options["kernel"]
        options["groups"] = _groups(model, entry, leaf, arrives)
        return nets.layer(model.family, leaf, transposed=entry.transposed, **{name: _per_axis(value) for name, value in options.items()})
    if entry.lane == "linear":
        return nets.layer(model.family, leaf)
    if entry.lane == "prelu":
        return nets.prelu(model.family, leaf)
    return _norm(model, entry, leaf, options)


def _norm(model: nets.Assembly, entry: Entry, leaf: Leaf, options: dict[str, Any]) -> nn.Module:
    batch = entry.name.startswith("batchnorm")
    if batch is not (leaf.kind is Kind.BATCHNORM):
        model.refuse(leaf, f"{entry} is wanted, this is a {leaf.kind}", _AS_LISTED)
    if batch:
        return nets.layer(model.family, leaf, dimensions=entry.dimensions, **options)
    if entry.name == "layernorm":
        return nets.layer(model.family, leaf, **options)
    groups, channels = options["groups"], leaf.shape[0]
    if channels % groups:
        model.refuse(leaf, f"{entry} wants a multiple of {groups} channels", _AS_LISTED)
    return nets.fitted(model.family, leaf, lambda: nn.GroupNorm(groups, channels, eps=options["eps"]))


def _check_kernel(model: nets.Assembly, entry: Entry, leaf: Leaf) -> None:
    axes = len(leaf.shape) - 2
    kernel = entry.options["kernel"]
    wanted = (kernel,) * entry.dimensions if isinstance(kernel, int) else tuple(kernel)
    if axes != entry.dimensions or wanted != leaf.shape[2:]:
        model.refuse(leaf, f"{entry} wants a kernel of {_times(wanted)}, the file has {_times(leaf.shape[2:])}", _AS_LISTED)


def _groups(model: nets.Assembly, entry: Entry, leaf: Leaf, arrives: Sequence[int]) -> int:
    """Those declared, or those that the channels which arrive show.

    Not at the first convolution: there a file for one channel would pass for one in groups.
    """
    groups: int = entry.options["groups"] or 1
    channels = arrives[0] if arrives else 0
    if entry.options["groups"] is None and entry.transposed:
        bias = leaf.parts.get("bias")
        groups = max(1, bias.numel // leaf.shape[1]) if bias else 1
    elif entry.options["groups"] is None and model.started and channels % leaf.shape[1] == 0:
        groups = max(1, channels // leaf.shape[1])
        if groups > 1:
            model.suppose(f"{entry} has {groups} groups: {channels} channels arrive, {leaf} takes {leaf.shape[1]} for each output")
    if leaf.shape[0] % groups:
        model.refuse(leaf, f"{entry} wants a multiple of {groups} {'input' if entry.transposed else 'output'} channels", _AS_LISTED)
    return groups


def _plain(entry: Entry) -> nn.Module:
    name, options = entry.name, {option: _per_axis(value) for option, value in entry.options.items()}
    if name.startswith("adaptive"):
        return _stock(f"Adaptive{name[8:11].title()}Pool{entry.dimensions}d")(options["size"])
    if name.endswith("d") and "pool" in name:
        return _stock(f"{name[:3].title()}Pool{entry.dimensions}d")(
            options["kernel"], stride=options["stride"], padding=options["padding"], ceil_mode=options["ceil_mode"]
        )
    return _PLAIN[name](options)


def _stock(name: str) -> Callable[..., nn.Module]:
    layer: Callable[..., nn.Module] = getattr(nn, name)
    return layer


class _GlobalAverage(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(2).mean(2)


_PLAIN: Mapping[str, Callable[[Mapping[str, Any]], nn.Module]] = {
    "globalavgpool": lambda _: _GlobalAverage(),
    "flatten": lambda _: nn.Flatten(),
    "dropout": lambda _: nn.Identity(),  # models are marked in eval mode
    "dropout2d": lambda _: nn.Identity(),
    "relu": lambda _: nn.ReLU(),
    "relu6": lambda _: nn.ReLU6(),
    "tanh": lambda _: nn.Tanh(),
    "gelu": lambda _: nn.GELU(),
    "sigmoid": lambda _: nn.Sigmoid(),
    "silu": lambda _: nn.SiLU(),
    "mish": lambda _: nn.Mish(),
    "hardswish": lambda _: nn.Hardswish(),
    "softmax": lambda _: nn.Softmax(1),
    "logsoftmax": lambda _: nn.LogSoftmax(1),
    "leakyrelu": lambda options: nn.LeakyReLU(options["slope"]),
    "elu": lambda options: nn.ELU(options["alpha"]),
}


def _per_axis(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _times(sizes: Sequence[int]) -> str:
    return "×".join(map(str, sizes)) or "nothing"
