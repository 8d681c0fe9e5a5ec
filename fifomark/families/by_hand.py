"""One recurrent cell written by hand, of linear layers, under the usual names.

Three ways: a layer for the input beside one for the state (x2h, h2h; Wx, Wh), all gates in one matrix each; four gates of an LSTM, each a
layer over input and state side by side (forget_gate, …); one layer over both, as PyTorch's tutorial has it (i2h).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from fifomark.families.attention import words_of
from fifomark.families.census import SIDES, beside, recurrent
from fifomark.families.layers import Kind, Layers, Leaf

_LINEAR = (Kind.LINEAR, Kind.MATRIX)
_OF_STATE = ("h2h", "hh", "whh", "w_hh", "hidden2hidden", "hidden_to_hidden", "hid2hid", "recurrent")
_OF_INPUT = ("x2h", "i2h", "xh", "wxh", "w_xh", "ih", "wih", "w_ih", "input2hidden", "input_to_hidden", "in2hidden")
_WORDS = {"forget": "f", "f": "f", "input": "i", "i": "i", "output": "o", "o": "o", "cell": "g", "candidate": "g", "g": "g", "c": "g"}
_CELLS = {1: "rnn", 3: "gru", 4: "lstm"}
ORDERS: Mapping[str, str] = {"lstm": "ifgo", "gru": "rzn"}
"""torch's own order of the gates."""


class ByHand(NamedTuple):
    """`state` is the layer over the state, or over input and state where `input` is None; `gates`, where they are apart, are all there
    is."""

    cell: str
    input_size: int
    hidden_size: int
    state: Leaf
    input: Leaf | None = None
    gates: Mapping[str, Leaf] = MappingProxyType({})

    @property
    def leaf(self) -> Leaf:
        return self.state

    @property
    def leaves(self) -> tuple[Leaf, ...]:
        return tuple(self.gates.values()) if self.gates else (self.input, self.state) if self.input else (self.state,)

    @property
    def output_size(self) -> int:
        return self.hidden_size

    @property
    def directions(self) -> int:
        return 1

    @property
    def ordered(self) -> bool:
        """Whether several gates share a matrix."""
        return self.input is not None and self.cell in ORDERS


def by_hand(layers: Layers) -> ByHand | None:
    """The one cell of the file; None where there is none of these, or more than one."""
    return layers.once(_by_hand)


def _by_hand(layers: Layers) -> ByHand | None:
    candidates = [leaf for leaf in layers.of(*_LINEAR) if len(leaf.shape) == 2 and 0 not in leaf.shape and len(leaf.last) <= 24]
    if layers.of(Kind.RECURRENT, Kind.CELL) or not recurrent(layers):
        return None
    found = [*_beside(candidates), *_apart(candidates)] or list(_together(candidates))
    return found[0] if len(found) == 1 else None


def _beside(candidates: Sequence[Leaf]) -> Iterator[ByHand]:
    inputs = {(leaf.parent, leaf.shape[0]): leaf for leaf in candidates if leaf.last.lower() in _OF_INPUT}
    for state in candidates:
        rows, hidden = state.shape
        if state.last.lower() in _OF_STATE and rows % hidden == 0 and rows // hidden in _CELLS and (state.parent, rows) in inputs:
            yield _of_two(inputs[state.parent, rows], state)
    yield from (_of_two(*pair) for pair in beside(candidates, SIDES) if pair[1].shape[0] // pair[1].shape[1] in _CELLS)


def _of_two(of_input: Leaf, of_state: Leaf) -> ByHand:
    rows, hidden = of_state.shape
    return ByHand(_CELLS[rows // hidden], of_input.shape[1], hidden, of_state, of_input)


def _apart(candidates: Sequence[Leaf]) -> Iterator[ByHand]:
    parents: dict[str, dict[str, Leaf]] = {}
    for leaf in candidates:
        words = [_WORDS[word] for word in words_of(leaf.last) if word in _WORDS]
        if len(words) == 1 and leaf.shape[1] > leaf.shape[0]:
            parents.setdefault(leaf.parent, {}).setdefault(words[0], leaf)
    for gates in parents.values():
        if set(gates) == set("ifgo") and len({leaf.shape for leaf in gates.values()}) == 1:
            hidden, both = gates["f"].shape
            yield ByHand("lstm", both - hidden, hidden, gates["f"], gates=gates)


def _together(candidates: Sequence[Leaf]) -> Iterator[ByHand]:
    for leaf in candidates:
        hidden, both = leaf.shape
        if leaf.last.lower() in _OF_INPUT and both > hidden:
            yield ByHand("rnn", both - hidden, hidden, leaf)
