"""Logistic regression: one linear map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import TYPE_CHECKING, Any

from fifomark.core.errors import CannotBuild
from fifomark.core.findings import Finding
from fifomark.families.attention import sites
from fifomark.families.census import recurrent
from fifomark.families.checks import bounded, inside_layers, misfit
from fifomark.families.family import CONVINCING, FACTORY, Family, Match
from fifomark.families.layers import Kind, Layers, Leaf, listed
from fifomark.families.promises import doubts as promised_otherwise

if TYPE_CHECKING:
    from torch import nn

_MAPS = (Kind.LINEAR, Kind.MATRIX)
_EMBEDDINGS = ("emb", "lookup", "wte", "token", "vocab")
_MANY = 100  # rows from which on a tall matrix without bias is as likely a table of embeddings


class Logistic(Family):
    name = "logistic"

    def judge(self, layers: Layers) -> Match | None:
        maps = layers.of(*_MAPS)
        if len(maps) != 1 or layers.of(Kind.CONV) or recurrent(layers) or sites(layers):
            return None
        only = maps[0]
        rest = tuple(leaf for leaf in layers.leaves if leaf is not only and leaf.kind is not Kind.COUNTER)
        strength = part(layers, rest)
        against = [f"beside it: {listed(rest)}"] if rest else []
        if may_be_embedding(only):
            strength = min(strength, CONVINCING - 0.1)
            against.append(f"{only} has no bias: it may be a table of embeddings")
        if doubts := (*promised_otherwise((only,)), *(f"{norm} is no linear map" for norm in layers.of(Kind.NORM)[:1])):
            strength = min(strength, CONVINCING - 0.1)
            against += doubts
        outputs, inputs = only.shape
        evidence = (f"{only}: the only linear map, {inputs} inputs, {outputs} outputs, {'with' if only.bias else 'no'} bias",)
        return Match(self.name, strength, evidence, tuple(against), {"inputs": inputs, "outputs": outputs}, layers)

    def invariants(self, match: Match) -> list[Finding]:
        return bounded(inside_layers(match.layers))

    def build(self, match: Match, declared: Mapping[str, Any], input_shape: tuple[int, ...]) -> nn.Module:
        from fifomark.families import nets

        self.refuse(self.invariants(match))
        if any(leaf.kind not in (*_MAPS, Kind.COUNTER) for leaf in match.layers.leaves):
            raise CannotBuild(self.name, match.contradictions[0], f"Submit one linear layer, or {FACTORY}")
        (only,) = match.layers.of(*_MAPS)
        self.refuse(wrong_width(only, input_shape))
        model = nets.Assembly(self.name, match.layers)
        model.then(flat)
        model.run(only)
        return model.net()


def part(layers: Layers, rest: Sequence[Leaf]) -> float:
    """How much of the file is not `rest`: the mean of the share of its layers and of its parameters."""
    there, left = (sum(max(1, leaf.numel) for leaf in leaves) for leaves in (layers.leaves, rest))
    return 1 - (len(rest) / len(layers.leaves) + left / there) / 2


def may_be_embedding(leaf: Leaf) -> bool:
    """A matrix without bias that is called like one, or is tall and has many rows."""
    if leaf.kind is not Kind.MATRIX:
        return False
    rows, columns = leaf.shape
    return any(word in leaf.path[-200:].lower() for word in _EMBEDDINGS) or (rows > columns and rows >= _MANY)


def wrong_width(first: Leaf, input_shape: tuple[int, ...]) -> list[Finding]:
    """A finding where a layer that takes whole flattened examples has another number of inputs than an example has numbers."""
    if first.shape[1] == prod(input_shape):
        return []
    sides = f" ({' × '.join(map(str, input_shape))})" if len(input_shape) > 1 else ""
    advice = "Check the input size that the task asks for."
    return [misfit(first.weight, f"takes {first.shape[1]} inputs, but one example has {prod(input_shape)}{sides}", advice)]


def flat(x: Any) -> Any:
    return x.flatten(1)
