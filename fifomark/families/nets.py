"""Models put together from a stranger's names: the doorway of this room to torch.

A layer is first made on torch's meta device, where it costs no memory, and compared with the file; only then does it get numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NoReturn, TypeVar, cast

import torch
from torch import nn
from torch.nn.functional import gelu, linear, silu

from fifomark.core.errors import CannotBuild
from fifomark.core.text import shown
from fifomark.core.weights import TensorSpec
from fifomark.families.checks import misfit
from fifomark.families.computed_net import Computed, plant, recipes
from fifomark.families.family import FACTORY
from fifomark.families.layers import Kind, Layers, Leaf
from fifomark.families.names import wrapping

MAX_DEPTH = 64  # names in a path; torch walks the tree recursively
Step = Callable[[Any], Any]
Layer = TypeVar("Layer", bound=nn.Module | torch.Tensor)
CHECK_INPUT = "Check the input size that the task asks for."

ACTIVATIONS: Mapping[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "gelu": nn.GELU,
    "sigmoid": nn.Sigmoid,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "silu": nn.SiLU,
    "gelu_tanh": lambda: nn.GELU("tanh"),
}
FUNCTIONS: Mapping[str, Callable[[torch.Tensor], torch.Tensor]] = {"silu": silu, "gelu_tanh": partial(gelu, approximate="tanh")}


class Net(nn.Module):
    """Layers under the submitted names, and a forward pass that is a list of steps over them.

    `assumed` lists what was supposed, in sentences.
    """

    def __init__(self, steps: Sequence[Step], assumed: Sequence[str]) -> None:
        """`steps` are callables from tensor to tensor; they hold the layers themselves, which are planted afterwards."""
        super().__init__()
        self.steps, self.assumed = tuple(steps), tuple(assumed)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for step in self.steps:
            x = step(x)
        return x


class Assembly:
    """A model being put together, in the order in which it runs."""

    def __init__(self, family: str, layers: Layers) -> None:
        """`layers`: the whole file. Its counters are held; they take no part."""
        self.family = family
        self._layers: list[tuple[str, nn.Module | torch.Tensor]] = []
        self._steps: list[Step] = []
        self._assumed: list[str] = []
        for leaf in layers.of(Kind.COUNTER):
            self.hold(leaf.path, torch.zeros((), dtype=getattr(torch, leaf.weight.dtype)))

    @property
    def started(self) -> bool:
        """Whether a layer of the file is part of it already."""
        return any(isinstance(layer, nn.Module) for _, layer in self._layers)

    def hold(self, path: str, layer: Layer) -> Layer:
        """The layer or parameter becomes part of the model under its path; it runs only where a step uses it."""
        names = path.split(".")
        if len(names) > MAX_DEPTH or "training" in names:  # torch's own flag: eval() fails where a layer hides it
            raise CannotBuild(self.family, f"no model can have a layer called {shown(path, 80)}", "Use other, shorter module names.")
        self._layers.append((path, layer))
        return layer

    def run(self, leaf: Leaf, **options: Any) -> None:
        """The torch.nn layer of a leaf, held and run next. `options` go to its constructor."""
        self.then(self.hold(leaf.path, layer(self.family, leaf, **options)))

    def chain(self, linears: Sequence[Leaf], activation: str) -> None:
        """Linear layers with an activation between them."""
        for leaf in linears:
            self.run(leaf)
            if leaf is not linears[-1]:
                self.then(ACTIVATIONS[activation]())

    def then(self, step: Step) -> None:
        self._steps.append(step)

    def suppose(self, sentence: str) -> None:
        self._assumed.append(sentence)

    def refuse(self, leaf: Leaf, message: str, advice: str) -> NoReturn:
        """CannotBuild with a finding about the leaf: the weights are not what the task asks for."""
        finding = misfit(leaf.weight, message, advice)
        raise CannotBuild(self.family, finding.message, finding.advice, [finding])

    def net(self) -> Net:
        """The model, in eval mode; only now its layers take memory."""
        net = Net(self._steps, self._assumed)
        for path, layer in sorted(self._layers, key=lambda held: held[0].count(".") if held[0] else -1):  # what is above, first
            if isinstance(layer, nn.Module):
                materialise(layer)
            self._plant(net, path, layer)
        return net.eval()

    def _plant(self, root: nn.Module, path: str, layer: nn.Module | torch.Tensor) -> None:
        if not path and isinstance(layer, nn.Module):
            root._parameters, root._buffers, root._modules = layer._parameters, layer._buffers, layer._modules  # one table, two owners
        elif not plant(root, path, layer):
            seen = f"{shown(path, 80)} stands where the layer above it has a part of its own"
            raise CannotBuild(self.family, seen, "Use another module name.")


def materialise(outline: nn.Module) -> nn.Module:
    """The same module with its tensors on the CPU, all zeros. As to_empty, which imports a compiler for it, and takes half a second."""
    outline._apply(lambda tensor: torch.zeros(tensor.shape, dtype=tensor.dtype))  # type: ignore[no-untyped-call]
    return outline


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
    return fitted(family, leaf, lambda: _made(leaf, options))


def fitted(family: str, leaf: Leaf, make: Callable[[], nn.Module]) -> nn.Module:
    """What `make` makes, without memory, to take the tensors of a leaf; behind weight norm, spectral norm or pruning as well.

    CannotBuild where they do not fit.
    """
    if leaf.plain:
        return outlined(family, make, leaf.tensors)
    found = recipes(leaf)
    if found is None:
        seen = f"{leaf} is behind a {wrapping(leaf.tensors)} that cannot be worked out from {shown(', '.join(leaf.tensors), 120)}"
        raise CannotBuild(
            family, seen, "Remove it before saving (torch.nn.utils.parametrize.remove_parametrizations, prune.remove), or " + FACTORY
        )
    return Computed(outlined(family, make, leaf.parts), leaf, found)


def _made(leaf: Leaf, options: dict[str, Any]) -> nn.Module:
    if leaf.kind in (Kind.LINEAR, Kind.MATRIX):
        return nn.Linear(leaf.shape[1], leaf.shape[0], bias=leaf.bias)
    if leaf.kind is Kind.CONV:
        return _convolution(leaf, **options)
    if leaf.kind is Kind.BATCHNORM:
        dimensions = options.pop("dimensions", 1)
        norm = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)[dimensions - 1]
        return norm(leaf.shape[0], affine="weight" in leaf.parts, **options)
    assert leaf.kind is Kind.NORM
    return nn.LayerNorm(leaf.shape, **options)


def _convolution(leaf: Leaf, transposed: bool = False, groups: int = 1, **options: Any) -> nn.Module:
    """Weights are (out, in / groups, …), of a transposed one (in, out / groups, …)."""
    first, second, *kernel = leaf.shape
    if transposed:
        turned: Any = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)[len(kernel) - 1]
        return cast(nn.Module, turned(first, second * groups, tuple(kernel), bias=leaf.bias, groups=groups, **options))
    made: Any = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[len(kernel) - 1]
    return cast(nn.Module, made(second * groups, first, tuple(kernel), bias=leaf.bias, groups=groups, **options))


def bare_norm(family: str, leaf: Leaf, kind: str, eps: float) -> nn.Module:
    """A norm without bias: "rms" or "layer"."""
    if kind == "rms":
        return fitted(family, leaf, lambda: nn.RMSNorm(leaf.shape, eps=eps))
    return fitted(family, leaf, lambda: nn.LayerNorm(leaf.shape, eps=eps, bias=False))


class Turned(nn.Module):
    """A linear layer whose weight is (in, out)."""

    def __init__(self, inputs: int, outputs: int, bias: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(inputs, outputs))
        self.bias: nn.Parameter | None
        self.register_parameter("bias", nn.Parameter(torch.zeros(outputs)) if bias else None)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return linear(x, self.weight.T, self.bias)


def turned(family: str, leaf: Leaf) -> nn.Module:
    return fitted(family, leaf, lambda: Turned(leaf.shape[0], leaf.shape[1], leaf.bias))


def prelu(family: str, leaf: Leaf) -> nn.Module:
    return fitted(family, leaf, lambda: nn.PReLU(leaf.shape[0]))


def embedding(family: str, leaf: Leaf) -> nn.Module:
    """A matrix read as a table with one row for each token."""
    return fitted(family, leaf, lambda: nn.Embedding(leaf.shape[0], leaf.shape[1]))


def weight(spec: TensorSpec) -> nn.Parameter:
    """A bare parameter of the file, zero."""
    return nn.Parameter(torch.zeros(spec.shape))


def one_channel(x: torch.Tensor) -> torch.Tensor:
    """(N, …) → (N, 1, …)"""
    return x.unsqueeze(1)


def drop_channel(x: torch.Tensor) -> torch.Tensor:
    """(N, 1, …) → (N, …)"""
    return x.squeeze(1)


def one_feature(x: torch.Tensor) -> torch.Tensor:
    """(N, T) → (N, T, 1)"""
    return x.unsqueeze(-1)
