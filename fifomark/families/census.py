"""What carries a network: convolution, recurrence or attention, by its parameters; and what is more than one network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from fifomark.families.attention import Site, sites, words_of
from fifomark.families.layers import Kind, Layers, Leaf, listed

_GATES = (1, 2, 3, 4)  # hand-written layers hold up to four gates in one matrix
_PAIRS: Final = (
    (("generator", "gen", "netg", "g", "g_net"), ("discriminator", "disc", "netd", "d", "d_net", "critic")),
    (("teacher",), ("student",)),
    (("online", "policy_net", "q_net", "qnetwork_local"), ("target", "target_net", "q_target", "qnetwork_target")),
)
_H2H: Final = frozenset(
    ("h2h", "hh", "whh", "hidden2hidden", "hiddentohidden", "hidden_to_hidden", "w_hh", "hid2hid", "recurrent", "reservoir")
)
_X2H: Final = frozenset(("i2h", "x2h", "input_to_hidden", "inputtohidden", "input2hidden", "in2hidden"))
SIDES: Final = (("wx", "wh"), ("w_x", "w_h"), ("inp", "rec"), ("in", "rec"), ("input", "rec"), ("w_in", "w_rec"))
"""What layers from the input and from the state are called beside each other, and nothing else is."""
_PERHAPS_SIDES: Final = (("u", "w"), ("w", "u"), ("fc_x", "fc_h"), ("lin_x", "lin_h"), ("linear_x", "linear_h"))
_CELLS: Final = ("lstm", "cell", "gates")
_GATED: Final = ((4, ("forget", "in", "out")), (3, ("reset", "update")))  # gates of an LSTM and of a GRU, and how words for them begin
_CARRIERS: Final = (Kind.LINEAR, Kind.MATRIX, Kind.CONV, Kind.RECURRENT, Kind.CELL, Kind.ATTENTION)
_PAPER: Final = frozenset(source + gate for source in "ixh" for gate in "rznfogci")
_WORD: Final = {"cnn": "convolutions", "rnn": "recurrent layers", "transformer": "attention"}


def recurrent(layers: Layers) -> tuple[Leaf, ...]:
    """Recurrent layers and cells, also those written by hand under the usual names."""
    return layers.once(_recurrent)


def _recurrent(layers: Layers) -> tuple[Leaf, ...]:
    matrices = layers.of(Kind.LINEAR, Kind.MATRIX, Kind.OTHER)
    by_hand = dict.fromkeys(_stepping(matrices))
    by_hand |= dict.fromkeys(leaf for pair in beside(matrices, SIDES) for leaf in pair)
    by_hand |= dict.fromkeys(_gates(matrices))
    by_hand |= dict.fromkeys(_paired(matrices))
    by_hand |= dict.fromkeys(leaf for leaf in layers.of(Kind.LINEAR, Kind.MATRIX, Kind.CONV) if _takes_a_state(leaf))
    return (*layers.of(Kind.RECURRENT, Kind.CELL), *by_hand)


def _stepping(matrices: tuple[Leaf, ...]) -> Iterator[Leaf]:
    """Layers called i2h or h2h. An i2h alone takes input and state side by side, more than it gives: a perceptron may call its first so."""
    named = [leaf for leaf in matrices if len(leaf.last) <= 24 and steps(leaf)]
    with_state = {leaf.parent for leaf in named if leaf.last.lower() in _H2H}
    for leaf in named:
        if leaf.parent in with_state or leaf.shape[1] > leaf.shape[0]:
            yield leaf


def steps(leaf: Leaf) -> bool:
    """Whether the name says that this takes a state or an input to the next state, and the shape allows it."""
    name = leaf.last.lower()
    if (name not in _X2H and name not in _H2H) or len(leaf.shape) != 2 or 0 in leaf.shape:
        return False
    rows, columns = leaf.shape
    return name in _X2H or (rows % columns == 0 and rows // columns in _GATES)


def beside(matrices: Sequence[Leaf], names: Sequence[tuple[str, str]]) -> Iterator[tuple[Leaf, Leaf]]:
    """(from the input, from the state): siblings under two such names, with as many rows, and the state is as wide as one of the gates."""
    named = {(leaf.parent, leaf.last.lower()): leaf for leaf in matrices if len(leaf.shape) == 2 and len(leaf.last) <= 12}
    for (parent, name), state in named.items():
        rows, hidden = state.shape
        for of_input, of_state in names:
            first = named.get((parent, of_input)) if name == of_state else None
            if first and first.shape[0] == rows and hidden and rows % hidden == 0 and rows // hidden in _GATES:
                yield first, state


def perhaps_recurrent(layers: Layers) -> str | None:
    """A sentence where nothing carries the network for sure, and two layers are called as textbooks call those of a recurrence."""
    if any(parameters(layers).values()):
        return None
    pair = next(beside(layers.of(Kind.LINEAR, Kind.MATRIX), _PERHAPS_SIDES), None)
    return f"{pair[1]} beside {pair[0]}: of the state and of the input of a recurrence?" if pair else None


def _gates(matrices: tuple[Leaf, ...]) -> Iterator[Leaf]:
    """Gates of a hand-written LSTM or GRU: siblings of one shape, as many as it has. One word alone is no gate: others update as well."""
    parents = {leaf.parent for leaf in matrices if any(words[0] in leaf.last[:24].lower() for _, words in _GATED)}
    siblings: dict[tuple[str, tuple[int, ...]], list[Leaf]] = {}
    for leaf in matrices:
        if leaf.parent in parents and len(leaf.shape) == 2:
            siblings.setdefault((leaf.parent, leaf.shape), []).append(leaf)
    for leaves in siblings.values():
        called = [word for leaf in leaves for word in words_of(leaf.last[:24])]
        for many, starts in _GATED:
            if len(leaves) >= many and all(any(word.startswith(start) for word in called) for start in starts):
                yield from leaves


def _paired(matrices: tuple[Leaf, ...]) -> Iterator[Leaf]:
    """Gates as the papers write them, W_ir, W_hr, W_iz, W_hz: at least four siblings, from the input and from the state."""
    parents: dict[str, list[Leaf]] = {}
    for leaf in matrices:
        if len(leaf.last) <= 10 and leaf.last[-2:].lower() in _PAPER and len(leaf.shape) == 2:
            parents.setdefault(leaf.parent, []).append(leaf)
    for leaves in parents.values():
        states = sum(leaf.last[-2].lower() == "h" for leaf in leaves)
        if 2 <= states <= len(leaves) - 2 and len({leaf.shape[0] for leaf in leaves}) == 1:
            yield from leaves


def _takes_a_state(leaf: Leaf) -> bool:
    """The one layer of a hand-written cell: called so, four gates of which each is narrower than what comes in, input and state."""
    rows, columns = leaf.shape[:2]
    if rows % 4 or columns <= rows // 4 or not any(word in leaf.path[-60:].lower() for word in _CELLS):
        return False
    near = "_".join(leaf.path[-60:].split(".")[-3:])
    return any(word.startswith(("lstm", "convlstm")) or word in ("cell", "gates") for word in words_of(near))


def patch_stem(layers: Layers, attention: tuple[Site, ...]) -> Leaf | None:
    """The one convolution that cuts an image into tokens as wide as an attention takes them."""
    inside = {leaf for site in attention for leaf in site.leaves}
    convolutions = [leaf for leaf in layers.of(Kind.CONV) if leaf not in inside]
    if len(convolutions) == 1 and any(site.width == convolutions[0].shape[0] for site in attention):
        return convolutions[0]
    return None


def parameters(layers: Layers) -> Mapping[str, int]:
    """How many parameters speak for cnn, rnn and transformer. At least 1 for each layer, so that no kind weighs nothing."""
    return layers.once(_parameters)


def _parameters(layers: Layers) -> Mapping[str, int]:
    attention = sites(layers)
    attending = {leaf for site in attention for leaf in site.leaves}
    stem = patch_stem(layers, attention) if attention else None
    convolutions = [leaf for leaf in layers.of(Kind.CONV) if leaf is not stem and leaf not in attending]
    # Of kernel 1 they are linear layers, which any network has; where no other convolution is they say what little there is to say.
    wide = [leaf for leaf in convolutions if not pointwise(leaf)] or ([] if attending else convolutions)
    return {
        "cnn": sum(max(1, leaf.numel) for leaf in wide),
        "rnn": sum(max(1, leaf.numel) for leaf in recurrent(layers)),
        "transformer": sum(max(1, leaf.numel) for leaf in attending),
    }


def pointwise(leaf: Leaf) -> bool:
    """A convolution whose kernel is 1 along each axis."""
    return all(side == 1 for side in leaf.shape[2:])


def share(layers: Layers, family: str) -> tuple[float, tuple[str, ...]]:
    """(the share of `family` among the three, sentences about the others that are there)."""
    counts = parameters(layers)
    others = tuple(f"{_WORD[name]} with {count} parameters" for name, count in counts.items() if count and name != family)
    return counts[family] / max(1, sum(counts.values())), others


def mixture(layers: Layers) -> tuple[str, ...]:
    """A sentence where more than one of the three is there: who holds which share."""
    counts = {_WORD[name]: count for name, count in parameters(layers).items() if count}
    if len(counts) < 2:
        return ()
    whole = sum(counts.values())
    shares = ", ".join(f"{word} {count / whole:.0%}" for word, count in sorted(counts.items(), key=lambda pair: -pair[1]))
    return (f"a mixture, by the parameters of what carries it: {shares}",)


def missing(layers: Layers) -> tuple[str, ...]:
    """What no family can do without, in a sentence, where it is not there."""
    if quantised := layers.of(Kind.QUANTISED):
        return (f"the weights of {listed(quantised)} are packed and not in the file: save the model before it is quantised",)
    if layers.leaves and all(leaf.kind in (Kind.OTHER, Kind.COUNTER) for leaf in layers.leaves):
        return ("no tensor is called as torch.nn calls those of a layer: fc.weight, fc.bias",)
    return () if layers.of(*_CARRIERS) else ("there is no linear, convolutional, recurrent or attention layer",)


def two_networks(layers: Layers) -> tuple[str, ...]:
    """A sentence where the file holds a generator and a discriminator, or another pair of networks."""
    tops = {leaf.path.partition(".")[0].lower() for leaf in layers.leaves}
    for ones, others in _PAIRS:
        one, other = tops.intersection(ones), tops.intersection(others)
        if one and other:
            return (f"two networks: {min(one)} and {min(other)}",)
    return ()
