"""Convolutional network.

Strides, paddings, poolings and ways around cannot be read from weights: `layers` declares them, and is checked against the file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from fifomark.core.errors import CannotBuild
from fifomark.core.findings import Finding
from fifomark.families import resnet
from fifomark.families.census import pointwise, share, two_networks
from fifomark.families.chain import breaks
from fifomark.families.checks import bounded, inside_layers, misfit
from fifomark.families.cnn_spec import Entry, parse, walk
from fifomark.families.family import CONVINCING, Fact, Family, Match
from fifomark.families.layers import Kind, Layers, Leaf, listed

if TYPE_CHECKING:
    from torch import nn

_LANES = {
    Kind.CONV: "conv",
    Kind.BATCHNORM: "norm",
    Kind.NORM: "norm",
    Kind.LINEAR: "linear",
    Kind.MATRIX: "linear",
    Kind.SCALE: "prelu",
}
_FLAT = (Kind.LINEAR, Kind.MATRIX)
_ADVICE = "Build the model with the layers that the task lists, and train it again."


class CNN(Family):
    name = "cnn"
    facts: ClassVar[Mapping[str, Fact]] = {
        "layers": Fact("the layers in the order in which they run, with kernels, strides, paddings and poolings", parse=parse),
    }

    def judge(self, layers: Layers) -> Match | None:
        convolutions = layers.of(Kind.CONV)
        strength, others = share(layers, self.name)
        if not convolutions or strength == 0:
            return None
        doubts = (*_doubts(layers), *two_networks(layers))
        evidence = [f"{len(convolutions)} × convolution: {listed(convolutions, 6)}", *_kinds(layers)]
        if norms := layers.of(Kind.BATCHNORM, Kind.NORM):
            evidence.append(f"{len(norms)} × norm: {listed(norms)}")
        if head := layers.of(Kind.LINEAR, Kind.MATRIX):
            evidence.append(f"{len(head)} × linear layer: {listed(head)}")
        against = (*doubts, *(f"also {other}" for other in others))
        read = {"convolutions": len(convolutions), "dimensions": len(convolutions[0].shape) - 2}
        return Match(self.name, min(strength, CONVINCING - 0.1) if doubts else strength, tuple(evidence), against, read, layers)

    def invariants(self, match: Match) -> list[Finding]:
        return bounded(_broken(match.layers))

    def build(self, match: Match, declared: Mapping[str, Any], input_shape: tuple[int, ...]) -> nn.Module:
        from fifomark.families import cnn_net

        self.refuse(self.invariants(match))
        entries: tuple[Entry, ...] = self._written_out(match.layers) if declared["layers"] == "resnet" else declared["layers"]
        taken = self._paired(match.layers, tuple(walk(entries)))
        return cnn_net.build(self.name, match.layers, entries, taken, input_shape)

    def _written_out(self, layers: Layers) -> tuple[Entry, ...]:
        found = resnet.written_out(layers)
        if isinstance(found, Leaf):
            advice = "Build the network with torchvision.models.resnet18 or one of its kind, and train it again."
            self.refuse([misfit(found.weight, "no ResNet as torchvision's has this there", advice)])
        entries = parse(found)
        assert not isinstance(entries, str)
        return entries

    def _paired(self, layers: Layers, entries: Sequence[Entry]) -> Mapping[str, Leaf]:
        """The leaf of each entry that has parameters, by its place. Convolutions, norms and linear layers each in their own order."""
        if strange := [leaf for leaf in layers.leaves if leaf.kind not in (*_LANES, Kind.COUNTER)]:
            advice = "Submit a model that has just the layers that the task lists."
            raise CannotBuild(
                self.name, f"nothing in `layers` takes {listed(strange)}", advice, [misfit(strange[0].weight, "not in `layers`")]
            )
        taken: dict[str, Leaf] = {}
        for lane in ("conv", "norm", "linear", "prelu"):
            wanted = [entry for entry in entries if entry.lane == lane]
            there = [leaf for leaf in layers.leaves if _LANES.get(leaf.kind) == lane]
            if len(wanted) != len(there):
                anchor = (there[-1] if there else layers.leaves[0]).weight
                said = f"`layers` lists {len(wanted)} of kind {lane}, the file has {len(there)}" + (
                    f": {listed(there, 6)}" if there else ""
                )
                self.refuse([misfit(anchor, said, _ADVICE)])
            taken |= {entry.at: leaf for entry, leaf in zip(wanted, there, strict=True)}
        return taken


def _doubts(layers: Layers) -> Iterator[str]:
    yield from _pointwise(layers)
    yield from _bilinear(layers)
    convolutions, linears = layers.of(Kind.CONV), layers.of(Kind.LINEAR, Kind.MATRIX)
    gaps = breaks(linears)
    if len(gaps) > len(convolutions):
        yield f"more goes on in linear layers that are no head: {gaps[0][1]} does not follow {gaps[0][0]}, and {len(gaps) - 1} more"
    if any(_turned(leaf) for leaf in convolutions) and convolutions[-1].shape[1] == convolutions[0].shape[1]:
        yield f"{convolutions[-1]} gives back the {convolutions[0].shape[1]} channels of the input: an autoencoder?"


def _pointwise(layers: Layers) -> Iterator[str]:
    """Doubts about what only looks like a convolutional network."""
    convolutions = layers.of(Kind.CONV)
    if all(map(pointwise, convolutions)):
        yield f"every kernel is 1, as {convolutions[0]}: linear layers, applied at each place"
    strange = [leaf for leaf in layers.of(Kind.OTHER) if leaf.shape]
    if strange and sum(leaf.numel for leaf in strange) > sum(leaf.numel for leaf in convolutions):
        yield f"more parameters than in all convolutions are in no layer: {listed(strange)}"


def _bilinear(layers: Layers) -> Iterator[str]:
    """A doubt where all there is may be an nn.Bilinear, (out, a, b), as well as a convolution of a channels with a kernel of b."""
    convolutions = layers.of(Kind.CONV)
    if not all(map(_like_bilinear, convolutions)):
        return
    only = convolutions[0]
    if len(convolutions) == 1:  # in an nn.Sequential no layer has two inputs; what is flattened after it is longer than what it gives
        following = next((leaf.shape[1] for leaf in layers.leaves[layers.leaves.index(only) :] if leaf.kind in _FLAT), 0)
        doubtful = not only.last.isdigit() and (following <= only.shape[0] or following % only.shape[0] != 0)
    else:  # beyond the first convolution channels are more than steps of the kernel
        doubtful = all(leaf.shape[2] >= leaf.shape[1] for leaf in convolutions)
    if doubtful:
        yield f"{only} may be a bilinear layer of {only.shape[1]} and {only.shape[2]} inputs"


def _like_bilinear(leaf: Leaf) -> bool:
    called = any(word in leaf.path[-80:].lower() for word in ("conv", "cnn"))
    return len(leaf.shape) == 3 and leaf.shape[0] > 0 and min(leaf.shape[1:]) > 1 and not called and not _turned(leaf)


def _turned(leaf: Leaf) -> bool:
    """A transposed convolution: weights are (in, out, …), which shows where the bias is as long as the second side."""
    bias = leaf.parts.get("bias")
    return bias is not None and leaf.shape[0] != leaf.shape[1] and bias.shape == leaf.shape[1:2]


def _kinds(layers: Layers) -> Iterator[str]:
    convolutions = layers.of(Kind.CONV)
    if turned := [leaf for leaf in convolutions if _turned(leaf)]:
        yield f"{len(turned)} of them transposed: {listed(turned)}"
    if depthwise := [leaf for leaf in convolutions[1:] if leaf.shape[1] == 1 < leaf.shape[0]]:
        yield f"{len(depthwise)} of them depthwise: {listed(depthwise)}"


def _broken(layers: Layers) -> Iterator[Finding]:
    yield from inside_layers(layers)
    weighty = layers.of(Kind.CONV, Kind.LINEAR, Kind.MATRIX)
    widths = {side for leaf in weighty for side in leaf.shape[:2]}
    for norm in layers.of(Kind.BATCHNORM):
        if norm.shape[:1] and norm.shape[0] not in widths:
            yield misfit(norm.weight, "is as long as the channels of no convolution and no linear layer")
