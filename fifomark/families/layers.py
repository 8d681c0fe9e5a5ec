"""From tensor names and shapes to layers, in the order of the file.

Names are a stranger's: any text, any number. A name is split and looked up, never searched with a pattern; a number in it is compared,
never counted up to.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

from fifomark.core.text import shown
from fifomark.core.weights import TensorSpec


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
    OTHER = "other tensor"


@dataclass(frozen=True, eq=False)
class Leaf:
    """One layer: its dotted path ("" is the root) and its tensors by their local names. An OTHER leaf is one tensor, `path` its name.

    Two leaves are equal where they are the same one.
    """

    path: str
    kind: Kind
    tensors: Mapping[str, TensorSpec]

    @cached_property
    def weight(self) -> TensorSpec:
        """The tensor that says what the layer is; behind weight or spectral norm, the one that has the weight's shape."""
        named = next((self.tensors[local] for local in _MAIN if local in self.tensors), None)
        return _weight(self.tensors) or named or next(iter(self.tensors.values()))

    @property
    def shape(self) -> tuple[int, ...]:
        return self.weight.shape

    @property
    def bias(self) -> bool:
        return "bias" in self.tensors

    @property
    def plain(self) -> bool:
        """False where the weight is computed from others (weight norm, spectral norm)."""
        return self.weight.name.rpartition(".")[2] == "weight"

    @property
    def numel(self) -> int:
        return sum(spec.numel for spec in self.tensors.values())

    @property
    def last(self) -> str:
        return self.path.rpartition(".")[2]

    @property
    def parent(self) -> str:
        return self.path.rpartition(".")[0]

    def __str__(self) -> str:
        return said(self.weight)


@dataclass(frozen=True)
class Layers:
    """All leaves in the order of the file."""

    leaves: tuple[Leaf, ...]

    @cached_property
    def by_path(self) -> Mapping[str, Leaf]:
        return {leaf.path: leaf for leaf in self.leaves if leaf.kind is not Kind.OTHER}

    @cached_property
    def _by_kind(self) -> Mapping[Kind, tuple[Leaf, ...]]:
        return {kind: tuple(leaf for leaf in self.leaves if leaf.kind is kind) for kind in Kind}

    def of(self, *kinds: Kind) -> tuple[Leaf, ...]:
        if len(kinds) == 1:
            return self._by_kind[kinds[0]]
        return tuple(leaf for leaf in self.leaves if leaf.kind in kinds)

    def seen(self) -> tuple[str, ...]:
        """What is there, one sentence a kind with the first few named: what a report says where no family fits."""
        return tuple(f"{len(leaves)} × {kind}: {listed(leaves)}" for kind, leaves in self._by_kind.items() if leaves)


def said(spec: TensorSpec) -> str:
    """`fc1.weight (128, 784)`"""
    return f"{shown(spec.name, 80)} {shown(str(spec.shape), 80)}"


def listed(leaves: Sequence[Leaf], most: int = 3) -> str:
    return ", ".join(map(str, leaves[:most])) + (f" and {len(leaves) - most} more" if len(leaves) > most else "")


def read(weights: Iterable[TensorSpec]) -> Layers:
    """Time grows with the length of the names. Where a name comes twice the last one counts."""
    groups: dict[tuple[str, bool], dict[str, TensorSpec]] = {}
    for spec in weights:
        path, local = _split(spec.name)
        known = local in _LOCALS or recurrent_slot(local) is not None
        groups.setdefault((path, True) if known else (spec.name, False), {})[local] = spec
    return Layers(tuple(leaf for (path, known), tensors in groups.items() for leaf in _leaves(path, known, tensors)))


def recurrent_slot(local: str) -> tuple[str, int, bool] | None:
    """ "weight_ih_l1_reverse" → ("weight_ih", 1, True); None for what nn.RNN, nn.GRU and nn.LSTM would not call a tensor."""
    body, back = (local[: -len("_reverse")], True) if local.endswith("_reverse") else (local, False)
    what, _, level = body.rpartition("_l")
    if what not in _RECURRENT or len(level) > 4 or not (level.isascii() and level.isdigit()) or str(int(level)) != level:
        return None
    return what, int(level), back


_RECURRENT = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")
_CELL = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
_ATTENTION = ("in_proj_weight", "in_proj_bias", "q_proj_weight", "k_proj_weight", "v_proj_weight", "bias_k", "bias_v")
_NORM = ("running_mean", "running_var", "num_batches_tracked")
_WEIGHT_NORM = ("weight_g", "weight_v", "weight.original0", "weight.original1")
_SPECTRAL_NORM = ("weight_orig", "weight_u", "weight.original", "weight.0._u", "weight.0._v")
_WEIGHTS = ("weight", "weight_orig", "weight.original1", "weight.original")
_MAIN = ("weight_hh_l0", "weight_hh", "in_proj_weight", "q_proj_weight", "running_mean")
_LOCALS = frozenset(("weight", "bias", *_CELL, *_ATTENTION, *_NORM, *_WEIGHT_NORM, *_SPECTRAL_NORM))


def _split(name: str) -> tuple[str, str]:
    path, _, local = name.rpartition(".")
    head, mark, tail = name.rpartition("parametrizations.")  # torch.nn.utils.parametrize: conv.parametrizations.weight.original1
    if mark and tail in _LOCALS and (not head or head.endswith(".")):
        return head[:-1], tail
    return path, local


def _weight(tensors: Mapping[str, TensorSpec]) -> TensorSpec | None:
    names = (*_WEIGHTS, "weight_v") if "weight_g" in tensors else _WEIGHTS  # "weight_v" beside "weight_orig" is a vector
    return next((tensors[local] for local in names if local in tensors), None)


def _leaves(path: str, known: bool, tensors: Mapping[str, TensorSpec]) -> list[Leaf]:
    """One leaf; several OTHERs where known local names come together as no layer has them (a bias alone)."""
    kind = _kind(tensors) if known else Kind.OTHER
    if kind is not Kind.OTHER:
        return [Leaf(path, kind, tensors)]
    return [Leaf(spec.name, Kind.OTHER, {local: spec}) for local, spec in tensors.items()]


def _kind(tensors: Mapping[str, TensorSpec]) -> Kind:
    if any(recurrent_slot(local) for local in tensors):
        return Kind.RECURRENT
    if "weight_ih" in tensors and "weight_hh" in tensors:
        return Kind.CELL
    if "in_proj_weight" in tensors or "q_proj_weight" in tensors:
        return Kind.ATTENTION
    if "running_mean" in tensors and "running_var" in tensors:
        return Kind.BATCHNORM
    weight = _weight(tensors)
    return _kind_of_shape(weight.shape, tensors.get("bias")) if weight else Kind.OTHER


def _kind_of_shape(weight: tuple[int, ...], bias: TensorSpec | None) -> Kind:
    if weight and bias is not None and bias.shape == weight:
        return Kind.NORM
    if len(weight) == 1:
        return Kind.SCALE if bias is None else Kind.NORM
    if len(weight) == 2:
        return Kind.MATRIX if bias is None else Kind.LINEAR
    return Kind.CONV if 3 <= len(weight) <= 5 else Kind.OTHER
