"""Multi-layer perceptron: linear layers in a chain, norms between them allowed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from fifomark.core.errors import CannotBuild
from fifomark.core.findings import Finding
from fifomark.families.attention import sites
from fifomark.families.census import perhaps_recurrent, recurrent, two_networks
from fifomark.families.chain import ACTIVATIONS, NORMS, breaks, gives_back, in_order, place_norms
from fifomark.families.checks import bounded, inside_layers, misfit
from fifomark.families.family import CONVINCING, FACTORY, Fact, Family, Match
from fifomark.families.layers import Kind, Layers, Leaf, listed
from fifomark.families.logistic import flat, may_be_embedding, part, wrong_width
from fifomark.families.promises import back_and_forth, side_by_side
from fifomark.families.promises import doubts as promised_otherwise
from fifomark.families.recurrence import gates_sentence

if TYPE_CHECKING:
    from torch import nn

    from fifomark.families import nets


_CHAIN = (Kind.LINEAR, Kind.MATRIX, *NORMS, Kind.COUNTER)


def _rest(layers: Layers) -> tuple[Leaf, ...]:
    """What is no part of a chain of linear layers."""
    return tuple(leaf for leaf in layers.leaves if leaf.kind not in _CHAIN)


def _has_norms_between(match: Match) -> bool:
    return bool(match.layers.of(*NORMS))


class MLP(Family):
    name = "mlp"
    facts: ClassVar[Mapping[str, Fact]] = {
        "activation": Fact("what stands between the linear layers", "relu", (*ACTIVATIONS, "prelu")),
        "norm_position": Fact(
            "whether a norm comes before or after the activation",
            "before_activation",
            ("before_activation", "after_activation"),
            matters=_has_norms_between,
        ),
    }

    def judge(self, layers: Layers) -> Match | None:
        linears = layers.of(Kind.LINEAR, Kind.MATRIX)
        if len(linears) < 2 or layers.of(Kind.CONV, Kind.RECURRENT, Kind.CELL) or sites(layers):
            return None
        ordered, written = in_order(linears), recurrent(layers)
        if written and not ordered:
            return None
        recurrence = [perhaps] if (perhaps := perhaps_recurrent(layers)) else map(gates_sentence, written[:1])
        doubts = (*_doubts(linears, ordered), *two_networks(layers), *recurrence)
        rest = _rest(layers)
        strength = part(layers, rest)
        evidence = [f"{len(linears)} × linear layer: {listed(linears, 6)}"]
        if ordered:
            widths = [ordered[0].shape[1], *(leaf.shape[0] for leaf in ordered)]
            evidence.append(f"each takes what the one before gives: {_arrows(widths)}")
        if norms := layers.of(*NORMS):
            evidence.append(f"{len(norms)} × norm: {listed(norms)}")
        against = (*doubts, *((f"part of no chain: {listed(rest)}",) if rest else ()))
        read = {"inputs": (ordered or linears)[0].shape[1], "outputs": (ordered or linears)[-1].shape[0], "layers": len(linears)}
        return Match(self.name, min(strength, CONVINCING - 0.1) if doubts else strength, tuple(evidence), against, read, layers)

    def invariants(self, match: Match) -> list[Finding]:
        return bounded(_broken(match.layers))

    def build(self, match: Match, declared: Mapping[str, Any], input_shape: tuple[int, ...]) -> nn.Module:
        from fifomark.families import nets

        self.refuse(self.invariants(match))
        layers = match.layers
        slopes = layers.of(Kind.SCALE) if declared["activation"] == "prelu" else ()
        if rest := [leaf for leaf in _rest(layers) if leaf not in slopes]:
            undeclared = declared["activation"] != "prelu" and layers.of(Kind.SCALE)
            slope = ', or to declare activation = "prelu"' if undeclared else ""
            advice = f"Leave it out, or {FACTORY.removesuffix('.')}{slope}."
            raise CannotBuild(self.name, f"nothing says what {listed(rest)} is for", advice)
        ordered = in_order(layers.of(Kind.LINEAR, Kind.MATRIX))
        assert ordered is not None  # an invariant
        self.refuse(wrong_width(ordered[0], input_shape))
        if declared["activation"] == "prelu" and len(slopes) != len(ordered) - 1:
            self.refuse([misfit(ordered[-1].weight, f"expected {len(ordered) - 1} PReLU before it, there are {len(slopes)}")])
        placed = place_norms(layers, ordered)
        model = nets.Assembly(self.name, layers)
        model.then(flat)
        for norm in placed.first:
            model.run(norm)
        for at, leaf in enumerate(ordered):
            model.run(leaf)
            step = None if leaf is ordered[-1] else _activation(model, declared["activation"], slopes[at : at + 1])
            _between(model, placed.after.get(leaf.path), step, declared["norm_position"] == "before_activation")
        for sentence in _assumed(layers, ordered):
            model.suppose(sentence)
        return model.net()


def _activation(model: nets.Assembly, name: str, slope: Sequence[Leaf]) -> nets.Step:
    from fifomark.families import nets

    return model.hold(slope[0].path, nets.prelu(model.family, slope[0])) if slope else nets.ACTIVATIONS[name]()


def _between(model: nets.Assembly, norm: Leaf | None, activation: nets.Step | None, norm_first: bool) -> None:
    if norm and norm_first:
        model.run(norm)
    if activation:
        model.then(activation)
    if norm and not norm_first:
        model.run(norm)


def _doubts(linears: tuple[Leaf, ...], ordered: tuple[Leaf, ...] | None) -> Iterator[str]:
    if ordered is None:
        first, second = breaks(linears)[0]
        yield f"{second} does not take what {first} gives"
        if tables := [leaf for leaf in linears if may_be_embedding(leaf)]:
            yield f"{tables[0]} has no bias: it may be a table of embeddings"
    elif gives_back(ordered):
        yield f"{ordered[-1]} gives back the width of the input, {ordered[0].shape[1]}: an autoencoder?"
    yield from promised_otherwise(linears)
    if ordered:
        yield from back_and_forth(ordered)
        yield from side_by_side(ordered)


def _broken(layers: Layers) -> Iterator[Finding]:
    yield from inside_layers(layers)
    linears = layers.of(Kind.LINEAR, Kind.MATRIX)
    ordered = in_order(linears)
    if ordered is None:
        for first, second in breaks(linears):
            yield misfit(second.weight, f"expected {first.shape[0]} columns, what {first} gives")
        return
    for norm in place_norms(layers, ordered).lost:
        yield misfit(norm.weight, "is as long as the outputs of no linear layer before it")


def _assumed(layers: Layers, ordered: tuple[Leaf, ...]) -> list[str]:
    said: list[str] = []
    if ordered != layers.of(Kind.LINEAR, Kind.MATRIX):
        said.append(f"the linear layers run in the order in which they fit: {listed(ordered, 8)}")
    if layers.of(Kind.BATCHNORM):
        said.append("batch norm eps = 1e-05 (torch's default)")
    said += [f"{norm} is a layer norm, eps = 1e-05 (torch's default)" for norm in layers.of(Kind.NORM)[:1]]
    return said


def _arrows(widths: list[int], most: int = 12) -> str:
    return " → ".join(map(str, widths[:most])) + (" → …" if len(widths) > most else "")
