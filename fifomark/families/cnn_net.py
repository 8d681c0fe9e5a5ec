"""The layers of a declared convolutional network as torch modules, tried on an example that has a shape and no numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from fifomark.core.text import shown
from fifomark.families import nets
from fifomark.families.cnn_spec import JOINTS, Entry, walk
from fifomark.families.layers import Kind, Layers, Leaf

_AS_LISTED = "Build the model with the layers that the task lists, and train it again."
_CHECK_INPUT = "Check the input size that the task asks for, and the layers that it lists."


def build(family: str, layers: Layers, entries: Sequence[Entry], taken: Mapping[str, Leaf], input_shape: tuple[int, ...]) -> nets.Net:
    """`taken`: the leaf of each entry that has parameters, by its place, in the order of the entries.

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
    ordered = [taken[entry.at].path for entry in walk(entries) if entry.at in taken]
    if [leaf.path for leaf in layers.leaves if leaf.kind is not Kind.COUNTER] != ordered:
        model.suppose("convolutions, norms and linear layers are each taken in the order of the file, whatever stands between them there")
    kind = torch.int64 if entries[0].name == "embedding" else torch.float32
    x = torch.empty((2, *input_shape), dtype=kind, device="meta")  # without numbers: a misfit is said of the layer where it happens
    for step in _steps(model, entries, taken, x)[0]:
        model.then(step)
    return model.net()


def _steps(
    model: nets.Assembly, entries: Sequence[Entry], taken: Mapping[str, Leaf], x: torch.Tensor
) -> tuple[list[nets.Step], torch.Tensor]:
    """What runs, in its order, and the shape of what comes out of it where `x` goes in."""
    steps: list[nets.Step] = []
    for entry in entries:
        leaf = taken.get(entry.at)
        if entry.name in JOINTS:
            step, anchor = _joint(model, entry, taken, x)
        else:
            step = _parametrised(model, entry, leaf, x.shape[1:]) if leaf else _plain(entry)
            anchor = leaf or next(iter(taken.values()))
        x = _tried(model, entry, step, x, anchor)
        steps.append(model.hold(leaf.path, step) if leaf and isinstance(step, nn.Module) else step)
        if entry.options.get("channels") == "first":
            steps.append(_channels_first)
            x = _channels_first(x)
    return steps, x


def _channels_first(x: torch.Tensor) -> torch.Tensor:
    """(N, T, C) → (N, C, T)"""
    return x.transpose(1, 2)


def _joint(model: nets.Assembly, entry: Entry, taken: Mapping[str, Leaf], x: torch.Tensor) -> tuple[nets.Step, Leaf]:
    """Ways side by side and how they come together, and the last layer on them, of which a misfit is told."""
    ways = [_steps(model, way, taken, x)[0] for way in entry.ways]
    inside = [taken[part.at] for part in walk(entry.ways[0]) if part.at in taken]
    join = _JOINED[entry.name]

    def joined(x: torch.Tensor) -> torch.Tensor:
        outcomes = []
        for way in ways:
            y = x
            for step in way:
                y = step(y)
            outcomes.append(y)
        return join(outcomes)

    return joined, inside[-1] if inside else next(iter(taken.values()))


def _summed(ways: Sequence[torch.Tensor]) -> torch.Tensor:
    if ways[0].shape != ways[1].shape:
        raise ValueError(f"the sum of {_times(ways[0].shape[1:])} and {_times(ways[1].shape[1:])}")
    return ways[0] + ways[1]


def _gated(ways: Sequence[torch.Tensor]) -> torch.Tensor:
    gate, x = ways
    while gate.dim() < x.dim():
        gate = gate.unsqueeze(-1)  # one number a channel
    return gate * x


_JOINED: Mapping[str, Callable[[Sequence[torch.Tensor]], torch.Tensor]] = {
    "residual": _summed,
    "parallel": lambda ways: torch.cat(list(ways), dim=1),
    "gate": _gated,
}


def _tried(model: nets.Assembly, entry: Entry, step: nets.Step, x: torch.Tensor, anchor: Leaf) -> torch.Tensor:
    try:
        output: torch.Tensor = (step.eval() if isinstance(step, nn.Module) else step)(x)
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
    if entry.name == "embedding":
        return nets.embedding(model.family, leaf)
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


class _GlobalMaximum(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(2).amax(2)


class _Unsqueeze(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.unsqueeze(1)


class _GlobalAverage(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(2).mean(2)


_PLAIN: Mapping[str, Callable[[Mapping[str, Any]], nn.Module]] = {
    "globalavgpool": lambda _: _GlobalAverage(),
    "globalmaxpool": lambda _: _GlobalMaximum(),
    "unsqueeze": lambda _: _Unsqueeze(),
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
