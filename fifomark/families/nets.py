"""Models put together from a stranger's names: the one module of this room that imports torch.

A layer is first made on torch's meta device, where it costs no memory, and compared with the file; only then does it get numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any

import torch
from torch import nn

from fifomark.core.errors import CannotBuild
from fifomark.core.text import shown
from fifomark.core.weights import TensorSpec
from fifomark.families.checks import misfit
from fifomark.families.layers import Kind, Leaf

MAX_DEPTH = 64  # dots in a name; torch walks the tree recursively
Step = Callable[[Any], Any]

ACTIVATIONS: Mapping[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "gelu": nn.GELU,
    "sigmoid": nn.Sigmoid,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "silu": nn.SiLU,
}


class Net(nn.Module):
    """Layers under the submitted names, and a forward pass that is a list of steps over them."""

    def __init__(self, family: str, layers: Mapping[str, nn.Module | nn.Parameter], steps: Sequence[Step], assumed: Sequence[str]) -> None:
        """`layers` by dotted path ("" the root). `steps` are callables from tensor to tensor; they hold the layers themselves."""
        super().__init__()
        self.steps, self.assumed = tuple(steps), tuple(assumed)
        for path in sorted(layers, key=bool):  # the root first: what others hang below it is then kept
            if path.count(".") > MAX_DEPTH:
                raise CannotBuild(family, f"{shown(path, 80)} is nested more than {MAX_DEPTH} deep", "Use shorter module paths.")
            _materialise(layers[path])
            _plant(self, path, layers[path])
        self.eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for step in self.steps:
            x = step(x)
        return x


def _materialise(layer: nn.Module | nn.Parameter) -> None:
    if isinstance(layer, nn.Module):
        layer.to_empty(device="cpu").eval()
        with torch.no_grad():
            for tensor in chain(layer.parameters(), layer.buffers()):
                tensor.zero_()


def _plant(root: nn.Module, path: str, layer: nn.Module | nn.Parameter) -> None:
    # Straight into torch's tables: a submitted name may be "forward", "_modules" or "", which add_module and setattr trip over.
    if not path and isinstance(layer, nn.Module):
        root._parameters, root._buffers, root._modules = layer._parameters, layer._buffers, layer._modules  # one table, two owners
        return
    *above, last = path.split(".")
    spot: nn.Module = root
    for name in above:
        spot = spot._modules.setdefault(name, nn.Module())  # type: ignore[assignment]  # never None here
    if isinstance(layer, nn.Parameter):
        spot._parameters[last] = layer
        return
    if (branch := spot._modules.get(last)) is not None:
        layer._modules.update(branch._modules)
        layer._parameters.update(branch._parameters)
    spot._modules[last] = layer


def outlined(family: str, make: Callable[[], nn.Module], tensors: Mapping[str, TensorSpec]) -> nn.Module:
    """What `make` makes, without memory; CannotBuild with findings where its tensors are not exactly `tensors` (by local name)."""
    with torch.device("meta"):
        layer = make()
    made = {name: tuple(tensor.shape) for name, tensor in layer.state_dict().items()}
    findings = [
        misfit(spec, f"expected {made.get(local, 'no such tensor')}") for local, spec in tensors.items() if made.get(local) != spec.shape
    ]
    # load_state_dict itself fills in the counter that files from before torch 0.4.1 lack
    absent = [name for name in made if name not in tensors and name.rpartition(".")[2] != "num_batches_tracked"]
    if absent and not findings:
        anchor = next(iter(tensors.values()))
        findings = [misfit(anchor, f"{', '.join(absent[:4])} should stand beside it")]
    if findings:
        raise CannotBuild(family, findings[0].message, findings[0].advice, findings)
    return layer


def layer(family: str, leaf: Leaf, **options: Any) -> nn.Module:
    """The torch.nn layer of a leaf, without memory. `options` go to its constructor; sizes come from the shapes."""
    if not leaf.plain and leaf.kind is not Kind.BATCHNORM:
        raise CannotBuild(family, f"{leaf} is a weight norm or spectral norm", "Remove it before saving, or name a factory in the rubric.")
    return outlined(family, lambda: _made(leaf, options), leaf.tensors)


def _made(leaf: Leaf, options: dict[str, Any]) -> nn.Module:
    if leaf.kind in (Kind.LINEAR, Kind.MATRIX):
        return nn.Linear(leaf.shape[1], leaf.shape[0], bias=leaf.bias)
    if leaf.kind is Kind.CONV:
        made = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[len(leaf.shape) - 3]
        return made(leaf.shape[1] * options.get("groups", 1), leaf.shape[0], leaf.shape[2:], bias=leaf.bias, **options)  # type: ignore[arg-type]
    if leaf.kind is Kind.BATCHNORM:
        dimensions = options.pop("dimensions", 1)
        norm = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)[dimensions - 1]
        return norm(leaf.shape[0], affine="weight" in leaf.tensors, **options)
    assert leaf.kind is Kind.NORM
    return nn.LayerNorm(leaf.shape, **options)


def weight(spec: TensorSpec) -> nn.Parameter:
    """A bare parameter of the file, zero."""
    return nn.Parameter(torch.zeros(spec.shape))
