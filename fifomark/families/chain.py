"""Linear layers one after another: their order, and where the norms between them belong."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from fifomark.families.layers import Kind, Layers, Leaf

ACTIVATIONS = ("relu", "tanh", "gelu", "sigmoid", "leaky_relu", "elu", "silu")
NORMS = (Kind.BATCHNORM, Kind.NORM)


def in_order(linears: Sequence[Leaf]) -> tuple[Leaf, ...] | None:
    """The order in which each takes what the one before gives: that of the file, or else the only one there is; None where neither is."""
    if all(second.shape[1] == first.shape[0] for first, second in pairwise(linears)):
        return tuple(linears)
    by_inputs = {leaf.shape[1]: leaf for leaf in linears}
    outputs = {leaf.shape[0] for leaf in linears}
    starts = [leaf for leaf in linears if leaf.shape[1] not in outputs]
    if len(by_inputs) != len(linears) or len(outputs) != len(linears) or len(starts) != 1:
        return None
    order = starts
    while len(order) < len(linears) and (following := by_inputs.get(order[-1].shape[0])):
        order.append(following)
    return tuple(order) if len(order) == len(linears) else None


def breaks(linears: Sequence[Leaf]) -> tuple[tuple[Leaf, Leaf], ...]:
    """Neighbours in the file of which the second does not take what the first gives."""
    return tuple((first, second) for first, second in pairwise(linears) if second.shape[1] != first.shape[0])


def gives_back(linears: Sequence[Leaf]) -> bool:
    """Through something narrower back to the width of the input, as autoencoders do."""
    widths = [linears[0].shape[1], *(leaf.shape[0] for leaf in linears)]
    return len(linears) > 1 and widths[0] == widths[-1] == max(widths) > min(widths)


class Norms(NamedTuple):
    """`first` is applied to the input, `after` by the path of the linear layer; `lost` fits nowhere."""

    first: tuple[Leaf, ...]
    after: Mapping[str, Leaf]
    lost: tuple[Leaf, ...]


def place_norms(layers: Layers, ordered: Sequence[Leaf]) -> Norms:
    """A norm belongs to the linear layer before it in the file; several in a row to as many linear layers, in their order."""
    first: list[Leaf] = []
    lost: list[Leaf] = []
    after: dict[str, Leaf] = {}
    waiting: dict[int, deque[Leaf]] = {}
    previous: Leaf | None = None
    for leaf, alone in _with_company(layers):
        if leaf.kind not in NORMS:
            previous = leaf
            waiting.setdefault(leaf.shape[0], deque()).append(leaf)
        elif previous is None:
            (first if leaf.shape == ordered[0].shape[1:] and not first else lost).append(leaf)
        elif home := _home(leaf, previous if alone else None, waiting, after):
            after[home.path] = leaf
        else:
            lost.append(leaf)
    return Norms(tuple(first), after, tuple(lost))


def _with_company(layers: Layers) -> list[tuple[Leaf, bool]]:
    """Linear layers and norms, each with whether no norm is next to it."""
    row = layers.of(Kind.LINEAR, Kind.MATRIX, *NORMS)
    kinds = [False, *(leaf.kind in NORMS for leaf in row), False]
    return [(leaf, not kinds[at] and not kinds[at + 2]) for at, leaf in enumerate(row)]


def _home(norm: Leaf, previous: Leaf | None, waiting: Mapping[int, deque[Leaf]], after: Mapping[str, Leaf]) -> Leaf | None:
    if previous is not None and previous.shape[:1] == norm.shape:
        return previous
    queue = waiting.get(norm.shape[0], deque()) if len(norm.shape) == 1 else deque()
    while queue:
        if (leaf := queue.popleft()).path not in after:
            return leaf
    return None
