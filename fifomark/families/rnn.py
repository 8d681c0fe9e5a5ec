"""Recurrent network: an optional embedding, recurrent layers one after another, a pooling over time, linear layers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from fifomark.core.errors import CannotBuild
from fifomark.core.findings import Finding
from fifomark.families.by_hand import ByHand, by_hand
from fifomark.families.census import perhaps_recurrent, recurrent, share, steps
from fifomark.families.chain import ACTIVATIONS, NORMS, in_order
from fifomark.families.checks import bounded, inside_layers, misfit
from fifomark.families.family import CONVINCING, FACTORY, Fact, Family, Match, NotAllowed
from fifomark.families.layers import Kind, Layers, Leaf, listed
from fifomark.families.promises import graph
from fifomark.families.recurrence import Recurrence, broken, gates_sentence, recurrence

if TYPE_CHECKING:
    from torch import nn

_LINEAR = (Kind.LINEAR, Kind.MATRIX)
_RECURRENT = (Kind.RECURRENT, Kind.CELL)
_FACTORY = f"Build it so, or {FACTORY}"


class Plan(NamedTuple):
    embedding: Leaf | None
    stack: tuple[Recurrence | ByHand, ...]
    norm: Leaf | None
    head: tuple[Leaf, ...]


def _vanilla(match: Match) -> bool:
    plan = _plan(match.layers)
    return match.read.get("cell") == "rnn" if plan is None else any(seen.cell == "rnn" for seen in plan.stack)


def _shares_matrices(match: Match) -> bool:
    seen = by_hand(match.layers)
    return seen is not None and seen.ordered


def _order(value: object) -> object:
    if value != "torch" and (type(value) is not str or sorted(value) not in (sorted("ifgo"), sorted("rzn"))):
        raise NotAllowed("", f'must be "torch", or the letters ifgo of an LSTM or rzn of a GRU in their order, found {value!r}')
    return value


def _has_hidden_head(match: Match) -> bool:
    plan = _plan(match.layers)
    return plan is not None and len(plan.head) > 1


class RNN(Family):
    name = "rnn"
    facts: ClassVar[Mapping[str, Fact]] = {
        "batch_first": Fact("true: axis 1 of the batch is time; false: the layers were made to read axis 0 as time", True, (True, False)),
        "pooling": Fact(
            "what of the outputs goes on: the last, their mean or maximum, the final hidden state of each direction; or all of them (none)",
            "last",
            ("last", "mean", "max", "final_hidden", "none"),
        ),
        "nonlinearity": Fact("that of a plain nn.RNN", "tanh", ("tanh", "relu"), matters=_vanilla),
        "gate_order": Fact(
            "of a cell by hand: which gate comes first in a matrix of all of them, and so on (ifgo, or rzn of a GRU)",
            "torch",
            parse=_order,
            matters=_shares_matrices,
        ),
        "activation": Fact("what stands between the linear layers at the end", "relu", ACTIVATIONS, matters=_has_hidden_head),
    }

    def judge(self, layers: Layers) -> Match | None:
        there = recurrent(layers)
        if not there:
            return self._perhaps(layers)
        stepping = set(there)
        strength, others = share(layers, self.name)
        evidence = [gates_sentence(leaf) for leaf in there[:6]]
        if norms := layers.of(*NORMS):
            evidence.append(f"{len(norms)} × norm: {listed(norms)}")
        if head := [leaf for leaf in layers.of(*_LINEAR) if leaf not in stepping]:
            evidence.append(f"{len(head)} × linear layer or embedding: {listed(head)}")
        first = recurrence(there[0])
        read: dict[str, int | str | bool | tuple[int, ...]] = {"layers": len(there)}
        if first:
            read |= {"cell": first.cell, "input_size": first.input_size, "hidden_size": first.hidden_size, "levels": first.levels}
            read |= {"bidirectional": first.directions == 2, "projection": first.projection}
        doubts = () if layers.of(Kind.CONV) else tuple(graph(head))
        against = (*doubts, *(f"also {other}" for other in others))
        return Match(self.name, min(strength, CONVINCING - 0.1) if doubts else strength, tuple(evidence), against, read, layers)

    def _perhaps(self, layers: Layers) -> Match | None:
        if sentence := perhaps_recurrent(layers):
            against = ("layers of a perceptron may be called so as well",)
            return Match(self.name, CONVINCING - 0.1, (sentence,), against, {}, layers)
        return None

    def invariants(self, match: Match) -> list[Finding]:
        return bounded(_broken(match.layers))

    def build(self, match: Match, declared: Mapping[str, Any], input_shape: tuple[int, ...]) -> nn.Module:
        from fifomark.families import rnn_net

        self.refuse(self.invariants(match))
        if strange := [leaf for leaf in match.layers.leaves if leaf.kind not in (*_LINEAR, *_RECURRENT, *NORMS, Kind.COUNTER)]:
            raise CannotBuild(self.name, f"nothing says what {listed(strange)} is for", _FACTORY)
        plan = _plan(match.layers)
        if plan is None:
            seen = "; ".join(match.evidence[:4])
            wanted = "recurrent layers one after another, at most one norm of what the last one gives, then linear layers one after another"
            raise CannotBuild(self.name, f"expected {wanted}; there is {seen}", _FACTORY)
        return rnn_net.build(self.name, match.layers, plan, declared, input_shape)


def _plan(layers: Layers) -> Plan | None:
    """None where the layers are not an embedding (or none), recurrent layers in a chain, and linear layers in a chain."""
    ours = by_hand(layers)
    stack: list[Recurrence | ByHand | None] = [ours] if ours else [recurrence(leaf) for leaf in layers.of(*_RECURRENT)]
    known = tuple(seen for seen in stack if seen)
    if not known or len(known) != len(stack) or any(b.input_size != a.output_size for a, b in pairwise(known)):
        return None
    norms = layers.of(*NORMS)
    if len(norms) > 1 or any(norm.shape != (known[-1].output_size,) for norm in norms):
        return None
    linears = [leaf for leaf in layers.of(*_LINEAR) if ours is None or leaf not in ours.leaves]
    embedding = next((leaf for leaf in linears if _embeds(leaf, known[0], layers)), None)
    rest = [leaf for leaf in linears if leaf is not embedding]
    head = in_order(rest) if rest else ()
    if ours and head and head[0].shape[1] != ours.hidden_size:
        return None  # it takes the input as well, perhaps: who knows what was written by hand
    return None if head is None else Plan(embedding, known, norms[0] if norms else None, head)


def _embeds(leaf: Leaf, first: Recurrence | ByHand, layers: Layers) -> bool:
    """A matrix as wide as what the recurrent layer takes, before it in the file, or else too wide for what it gives."""
    if leaf.kind is not Kind.MATRIX or leaf.shape[1] != first.input_size:
        return False
    earlier = next(other for other in layers.leaves if other is leaf or other is first.leaf)
    return earlier is leaf or leaf.shape[1] != first.output_size


def _steps_fit(layers: Layers) -> Iterator[Finding]:
    """Hand-written layers side by side, from an input and from a state, give the same next state."""
    beside: dict[str, Leaf] = {}
    for leaf in recurrent(layers):
        if leaf.kind in _LINEAR and steps(leaf):
            first = beside.setdefault(leaf.parent, leaf)
            if leaf.shape[0] != first.shape[0]:
                yield misfit(leaf.weight, f"expected {first.shape[0]} rows, as {first}")


def _broken(layers: Layers) -> Iterator[Finding]:
    yield from inside_layers(layers)
    stack = layers.of(*_RECURRENT)
    if all(leaf.plain for leaf in stack):  # otherwise some of the tensors may stand at another module, as WeightDrop has them
        for leaf in stack:
            yield from broken(leaf)
    yield from _steps_fit(layers)
    plan = _plan(layers)
    if plan and plan.head:
        last = plan.stack[-1]
        if plan.head[0].shape[1] % (last.output_size // last.directions):
            yield misfit(plan.head[0].weight, f"expected {last.output_size} columns, what {last.leaf} gives")
