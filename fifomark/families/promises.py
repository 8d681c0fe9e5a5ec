"""What speaks against a plain network although the shapes fit: names that promise other layers, weights that are (in, out), detours."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final

from fifomark.families.attention import words_of
from fifomark.families.layers import Kind, Leaf

_STARTS: Final = {
    "conv": "a convolution",
    "gcn": "a graph network",
    "graph": "a graph network",
    "gnn": "a graph network",
    "lstm": "a recurrent layer",
    "gru": "a recurrent layer",
    "rnn": "a recurrent layer",
    "qrnn": "a recurrent layer",
    "attn": "attention",
    "attention": "attention",
    "expert": "a mixture of experts",
    "lora": "a low-rank adapter",
    "highway": "a gated layer",
    "message": "a graph network",
}
_WORDS: Final = {
    **dict.fromkeys(("gate", "gates", "forget", "reset", "update"), "a gated layer"),
    "gat": "a graph network",
    "cell": "a recurrent layer",
}
_PREFIXES: Final = tuple(_STARTS)


def promised(leaf: Leaf) -> str | None:
    """Which kind of layer the modules above a linear layer, or itself, are called after, where that is none for a chain."""
    for word in words_of(leaf.path[-120:].replace(".", "_")):
        if word in _WORDS:
            return _WORDS[word]
        if word.startswith(_PREFIXES):
            return next(kind for start, kind in _STARTS.items() if word.startswith(start))
    return None


def graph(linears: Sequence[Leaf]) -> Iterator[str]:
    """A sentence where linear layers are called convolutions, as those over graphs are."""
    for leaf in linears:
        if promised(leaf) in ("a convolution", "a graph network"):
            yield f"{leaf} is a linear layer where the name promises a convolution: over a graph?"
            return


def turned(linears: Sequence[Leaf]) -> Leaf | None:
    """A linear layer whose weights are (in, out): its bias is as long as its columns; or a chain without biases that only fits so."""
    for leaf in linears:
        if leaf.kind is Kind.LINEAR and leaf.shape[0] != leaf.shape[1] and leaf.parts["bias"].shape == leaf.shape[1:]:
            return leaf
    bare = len(linears) > 1 and all(leaf.kind is Kind.MATRIX for leaf in linears)
    if bare and all(a.shape[1] == b.shape[0] for a, b in pairwise(linears)) and any(a.shape[0] != b.shape[1] for a, b in pairwise(linears)):
        return linears[0]
    return None


def doubts(linears: Sequence[Leaf]) -> Iterator[str]:
    """Sentences, one for each kind of doubt."""
    for leaf in linears:
        if kind := promised(leaf):
            yield f"{leaf} is a linear layer where the name promises {kind}"
            break
    if found := turned(linears):
        yield f"{found} is (in, out): graph convolutions and other frameworks have it so, torch's linear layers (out, in)"


def back_and_forth(linears: Sequence[Leaf]) -> Iterator[str]:
    """The same detour twice, a → b → a → b → a: blocks that stand beside a connection or beside each other, not in a chain."""
    for (first, second), (third, fourth) in zip(pairwise(linears), pairwise(linears[2:]), strict=False):
        if first.shape == third.shape and second.shape == fourth.shape == first.shape[::-1] != first.shape:
            yield f"{first} and {third} both lead away from {first.shape[1]} and back: blocks side by side, or with ways around?"
            return
