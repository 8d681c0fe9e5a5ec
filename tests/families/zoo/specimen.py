"""One network of the zoo, and the answers that are right for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fifomark.core.weights import FamilySeen, TensorSpec

PLAIN = ("logistic", "mlp", "cnn", "rnn", "transformer")
Shapes = Mapping[str, "tuple[int, ...] | Tensor"]
Maker = Callable[[], "nn.Module | Shapes"]


class Specimen(NamedTuple):
    """`truth` is a list of right answers, divided by "|": a family, "unknown", or a mixture ("cnn+rnn": named after one of the two with
    the other among its alternatives, or unknown with both).
    """

    title: str
    truth: str
    make: Maker

    def weights(self) -> list[TensorSpec]:
        return list(_weights(self.make))

    def right(self, seen: FamilySeen) -> bool:
        return any(_answers(seen, truth) for truth in self.truth.split("|"))

    def wrong(self, seen: FamilySeen) -> bool:
        """Named one of the plain families, and it is another one or none: what must never happen."""
        return seen.name in PLAIN and seen.name not in self.truth.replace("+", "|").split("|")


@cache
def _weights(make: Maker) -> tuple[TensorSpec, ...]:
    with torch.device("meta"):
        made = make()
    tensors = made.state_dict() if isinstance(made, nn.Module) else made
    return tuple(_spec(name, tensor) for name, tensor in tensors.items())


class Group:
    """The specimens of one file."""

    def __init__(self) -> None:
        self.specimens: list[Specimen] = []

    def add(self, truth: str, **made: Maker) -> None:
        for title, make in made.items():
            self.specimens.append(Specimen(title, truth, make))

    def __call__(self, truth: str) -> Callable[[Maker], Maker]:
        def kept(make: Maker) -> Maker:
            self.add(truth, **{make.__name__: make})
            return make

        return kept


def _answers(seen: FamilySeen, truth: str) -> bool:
    parts = truth.split("+")
    if len(parts) == 1:
        return seen.name == truth
    others = [part for part in parts if part != seen.name]
    return seen.name in ("unknown", *parts) and set(others) <= set(seen.alternatives)


def _spec(name: str, tensor: tuple[int, ...] | Tensor) -> TensorSpec:
    if isinstance(tensor, Tensor):
        return TensorSpec(name=name, dtype=str(tensor.dtype).removeprefix("torch."), shape=tuple(tensor.shape))
    counts = name.endswith(("num_batches_tracked", "position_ids"))
    return TensorSpec(name=name, dtype="int64" if counts else "float32", shape=tensor)


def module(**parts: Any) -> nn.Module:
    """A module with these parts in this order: modules, tensors (as parameters), lists of modules. It is never run."""
    made = nn.Module()
    for name, part in parts.items():
        if isinstance(part, list):
            part = nn.ModuleList(part)
        made.register_parameter(name, nn.Parameter(part)) if isinstance(part, Tensor) else made.add_module(name, part)
    return made


def linears(*widths: int, bias: bool = True) -> list[nn.Linear]:
    return [nn.Linear(a, b, bias=bias) for a, b in pairwise(widths)]


def mlp(*widths: int, act: Callable[[], nn.Module] = nn.ReLU) -> nn.Sequential:
    """Linear layers with an activation between them."""
    steps: list[nn.Module] = []
    for layer in linears(*widths):
        steps += [layer, act()]
    return nn.Sequential(*steps[:-1])


def conv(inputs: int, outputs: int, kernel: int = 3, **options: Any) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, **options)


def cbr(inputs: int, outputs: int, kernel: int = 3, **options: Any) -> nn.Sequential:
    """Convolution without bias, batch norm, ReLU."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, bias=False, **options), nn.BatchNorm2d(outputs), nn.ReLU())


def attention(width: int, *names: str, bias: bool = True, **others: int) -> nn.Module:
    """A module of square projections under `names`, and others with as many outputs as said."""
    parts = {name: nn.Linear(width, width, bias=bias) for name in names}
    return module(**parts, **{name: nn.Linear(width, rows, bias=bias) for name, rows in others.items()})
