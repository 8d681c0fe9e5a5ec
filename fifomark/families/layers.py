"""From tensor names and shapes to layers, in the order of the file.

That is the order in which they were made, and as a rule run. A file that somebody has sorted by name (safetensors does) has lost it; there
the numbers in the names, as numbers, are what is left of it.

Names are a stranger's: any text, any number. A name is split and looked up, never searched with a pattern; a number in it is compared,
never counted up to.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import StrEnum
from functools import cached_property
from itertools import chain, pairwise
from typing import Any, TypeVar

from fifomark.core.text import shown
from fifomark.core.weights import TensorSpec
from fifomark.families.names import LOCALS as _LOCALS
from fifomark.families.names import bare, recurrent_slot, split, unwrapped, wrapping

T = TypeVar("T")
_LONG = 64  # no local name of torch is longer


class Kind(StrEnum):
    LINEAR = "linear layer"
    MATRIX = "matrix without bias"  # a linear layer without bias, or an embedding
    CONV = "convolution"
    BATCHNORM = "batch norm"
    NORM = "layer or group norm"
    SCALE = "scale without bias"  # PReLU, RMSNorm, a norm without bias
    RECURRENT = "recurrent layer"  # nn.RNN, nn.GRU, nn.LSTM
    CELL = "recurrent cell"
    ATTENTION = "attention"  # nn.MultiheadAttention without its out_proj
    QUANTISED = "quantised layer whose weights are not in the file"
    COUNTER = "counter"  # whole numbers that no output depends on: n_averaged
    OTHER = "other tensor"


class Leaf:
    """One layer: its dotted path ("" is the root) and its tensors by their local names. An OTHER leaf is one tensor, `path` its name.

    `parts` are the tensors that the layer has without weight norm, spectral norm or pruning, by their plain names; the same as `tensors`
    where it has none of these. `weight` is the one that says what the layer is. Two leaves are equal where they are the same one.
    """

    def __init__(
        self, path: str, kind: Kind, tensors: Mapping[str, TensorSpec], parts: Mapping[str, TensorSpec], weight: TensorSpec
    ) -> None:
        self.path, self.kind, self.tensors, self.parts, self.weight = path, kind, tensors, parts, weight

    @property
    def shape(self) -> tuple[int, ...]:
        return self.weight.shape

    @property
    def bias(self) -> bool:
        return "bias" in self.parts

    @property
    def plain(self) -> bool:
        """False where a tensor of the layer is computed from others (weight norm, spectral norm, pruning)."""
        return self.parts is self.tensors

    @cached_property
    def numel(self) -> int:
        return sum(spec.numel for spec in self.parts.values())

    @property
    def last(self) -> str:
        return self.path.rpartition(".")[2]

    @property
    def parent(self) -> str:
        return self.path.rpartition(".")[0]

    def __str__(self) -> str:
        return said(self.weight)


class Layers:
    """All leaves in the order of the file."""

    def __init__(self, leaves: tuple[Leaf, ...]) -> None:
        self.leaves = leaves
        self._known: dict[object, Any] = {}

    @cached_property
    def by_path(self) -> Mapping[str, Leaf]:
        return {leaf.path: leaf for leaf in self.leaves if leaf.kind is not Kind.OTHER}

    @cached_property
    def _by_kind(self) -> Mapping[Kind, tuple[Leaf, ...]]:
        found: dict[Kind, list[Leaf]] = {}
        for leaf in self.leaves:
            found.setdefault(leaf.kind, []).append(leaf)
        return {kind: tuple(leaves) for kind, leaves in found.items()}

    def of(self, *kinds: Kind) -> tuple[Leaf, ...]:
        there = [kind for kind in kinds if kind in self._by_kind]
        if len(there) < 2:
            return self._by_kind[there[0]] if there else ()
        return tuple(leaf for leaf in self.leaves if leaf.kind in there)

    def once(self, make: Callable[[Layers], T]) -> T:
        """`make` of these layers. Several families ask the same; it is worked out once."""
        if make not in self._known:
            self._known[make] = make(self)
        known: T = self._known[make]
        return known

    def seen(self) -> tuple[str, ...]:
        """What is there, one sentence a kind with the first few named: what a report says where no family fits."""
        found = ((kind, self._by_kind[kind]) for kind in Kind if kind in self._by_kind)
        return tuple(f"{len(leaves)} × {kind}: {listed(leaves)}" for kind, leaves in found)

    def remarks(self) -> tuple[str, ...]:
        """Sentences about layers whose tensors are computed from others."""
        found: dict[str, list[Leaf]] = {}
        for leaf in self.leaves:
            if not leaf.plain:
                found.setdefault(wrapping(leaf.tensors), []).append(leaf)
        return tuple(f"{len(leaves)} × {word}: {listed(leaves)}" for word, leaves in found.items())


def said(spec: TensorSpec) -> str:
    """`fc1.weight (128, 784)`"""
    shape = str(spec.shape)
    return f"{shown(spec.name, 80)} {shape if len(shape) <= 80 else shown(shape, 80)}"


def listed(leaves: Sequence[Leaf], most: int = 3) -> str:
    return ", ".join(map(str, leaves[:most])) + (f" and {len(leaves) - most} more" if len(leaves) > most else "")


def read(weights: Iterable[TensorSpec]) -> Layers:
    """Time grows with the length of the names. Where a name comes twice the last one counts."""
    specs = list(weights)
    if sorted_by_name(specs):
        specs.sort(key=lambda spec: _by_number(spec.name))
    groups: dict[tuple[str, bool], dict[str, TensorSpec]] = {}
    for spec in specs:
        path, local = split(spec.name)
        known = local in _LOCALS or (len(local) <= _LONG and bare(local) is not None)
        groups.setdefault((path, True) if known else (spec.name, False), {})[local] = spec
    return Layers(tuple(leaf for (path, known), tensors in groups.items() for leaf in _leaves(path, known, tensors)))


_NUMBER = re.compile("([0-9]+)")  # takes no longer than to read the name
BY_NAME = "the file is sorted by name: layers run in the order of the numbers in their names"


def sorted_by_name(weights: Sequence[TensorSpec]) -> bool:
    """Whether somebody has put the tensors in the order of their names, each dtype by itself, so that it is not that of the model: torch
    has a layer's weight before its bias, and 2 before 10."""
    names: dict[str, list[str]] = {}
    for spec in weights:
        names.setdefault(spec.dtype, []).append(spec.name)
    if any(first > second for of_dtype in names.values() for first, second in pairwise(of_dtype)):
        return False
    known = {spec.name for spec in weights}
    layers = {path for path, local in map(split, known) if local == "weight"}
    if len(layers) > 1 and any(f"{path}.bias" in known for path in layers):
        return True
    return any(_by_number(first) > _by_number(second) for of_dtype in names.values() for first, second in pairwise(of_dtype))


def _by_number(name: str) -> tuple[tuple[int, int, str], ...]:
    """A key to sort by that has 2 before 10; a number is compared by its length and its digits, however long a stranger has made it."""
    text, *rest = _NUMBER.split(name)
    numbers = ((0, len(digits.lstrip("0")), digits.lstrip("0")) for digits in rest[::2])
    return ((1, 0, text), *chain.from_iterable(zip(numbers, ((1, 0, text) for text in rest[1::2]), strict=True)))


def _leaves(path: str, known: bool, tensors: Mapping[str, TensorSpec]) -> list[Leaf]:
    """One leaf; several OTHERs where known local names come together as no layer has them (a bias alone)."""
    if known:
        parts = tensors if tensors.keys() <= _LOCALS else unwrapped(tensors)
        kind = _kind(path, parts)
        if kind is not Kind.OTHER:
            return [Leaf(path, kind, tensors, parts, _main(tensors, parts))]
    return [_other(spec, {local: spec}) for local, spec in tensors.items()]


def _other(spec: TensorSpec, tensors: Mapping[str, TensorSpec]) -> Leaf:
    counts = not spec.shape and spec.dtype in _WHOLE
    return Leaf(spec.name, Kind.COUNTER if counts else Kind.OTHER, tensors, tensors, spec)


def _main(tensors: Mapping[str, TensorSpec], parts: Mapping[str, TensorSpec]) -> TensorSpec:
    return next((parts[local] for local in _MAIN if local in parts), None) or next(iter(tensors.values()))


_MAIN = ("weight", "weight_hh_l0", "weight_hh", "in_proj_weight", "q_proj_weight", "running_mean")
_WHOLE = ("int64", "int32", "int16", "int8", "uint8")


def _kind(path: str, parts: Mapping[str, TensorSpec]) -> Kind:
    if weight := parts.get("weight"):
        if "running_mean" in parts and "running_var" in parts:
            return Kind.BATCHNORM
        return _kind_of_shape(path, weight.shape, parts.get("bias"))
    if "weight_hh_l0" in parts or any(recurrent_slot(local) for local in parts):
        return Kind.RECURRENT
    if "weight_ih" in parts and "weight_hh" in parts:
        return Kind.CELL
    if "in_proj_weight" in parts or "q_proj_weight" in parts:
        return Kind.ATTENTION
    if "running_mean" in parts and "running_var" in parts:
        return Kind.BATCHNORM
    return Kind.QUANTISED if "scale" in parts and "zero_point" in parts else Kind.OTHER


def _kind_of_shape(path: str, weight: tuple[int, ...], bias: TensorSpec | None) -> Kind:
    if weight and bias is not None and bias.shape == weight:
        return Kind.NORM
    if len(weight) == 1:
        return Kind.SCALE if bias is None else Kind.NORM
    if len(weight) == 2:
        return Kind.MATRIX if bias is None else Kind.LINEAR
    if len(weight) == 3 and (_stacked(weight, bias) or "bilin" in path[-80:].lower()):
        return Kind.OTHER
    return Kind.CONV if 3 <= len(weight) <= 5 else Kind.OTHER


def _stacked(weight: tuple[int, ...], bias: TensorSpec | None) -> bool:
    """A row of (in, out) matrices, as relational graph networks have them: the bias is as long as the last axis and no other."""
    return bias is not None and bias.shape == weight[2:] and bias.shape[0] not in weight[:2]
