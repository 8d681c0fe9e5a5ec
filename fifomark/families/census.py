"""What carries a network: convolution, recurrence or attention, by its parameters; and what is more than one network."""

from __future__ import annotations

from collections.abc import Mapping

from fifomark.families.attention import Site, sites
from fifomark.families.layers import Kind, Layers, Leaf

_GENERATORS = frozenset({"generator", "gen", "netg", "g", "g_net"})
_CRITICS = frozenset({"discriminator", "disc", "netd", "d", "d_net", "critic"})
_BY_HAND = frozenset({"i2h", "h2h", "x2h", "hidden_to_hidden", "input_to_hidden"})  # the names that tutorials give a hand-written RNN
_WORD = {"cnn": "convolutions", "rnn": "recurrent layers", "transformer": "attention"}


def recurrent(layers: Layers) -> tuple[Leaf, ...]:
    """Recurrent layers and cells, also those written by hand under the usual names."""
    by_hand = tuple(leaf for leaf in layers.of(Kind.LINEAR, Kind.MATRIX) if leaf.last.lower() in _BY_HAND)
    return (*layers.of(Kind.RECURRENT, Kind.CELL), *by_hand)


def patch_stem(layers: Layers, attention: tuple[Site, ...]) -> Leaf | None:
    """The one convolution that cuts an image into tokens as wide as the attention takes them."""
    convolutions = layers.of(Kind.CONV)
    if len(convolutions) == 1 and attention and convolutions[0].shape[0] == attention[0].width:
        return convolutions[0]
    return None


def parameters(layers: Layers) -> Mapping[str, int]:
    """How many parameters speak for cnn, rnn and transformer. At least 1 for each layer, so that no kind weighs nothing."""
    attention = sites(layers)
    stem = patch_stem(layers, attention)
    return {
        "cnn": sum(max(1, leaf.numel) for leaf in layers.of(Kind.CONV) if leaf is not stem),
        "rnn": sum(max(1, leaf.numel) for leaf in recurrent(layers)),
        "transformer": sum(max(1, leaf.numel) for site in attention for leaf in site.leaves),
    }


def share(layers: Layers, family: str) -> tuple[float, tuple[str, ...]]:
    """(the share of `family` among the three, sentences about the others that are there)."""
    counts = parameters(layers)
    others = tuple(f"{_WORD[name]} with {count} parameters" for name, count in counts.items() if count and name != family)
    return counts[family] / max(1, sum(counts.values())), others


def two_networks(layers: Layers) -> tuple[str, ...]:
    """A sentence where the file holds a generator and a discriminator."""
    tops = {leaf.path.partition(".")[0].lower() for leaf in layers.leaves}
    if tops & _GENERATORS and tops & _CRITICS:
        return (f"two networks: {min(tops & _GENERATORS)} and {min(tops & _CRITICS)}",)
    return ()
