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
_LISTS: Final = ("models", "members", "ensemble", "learners", "heads", "branches", "towers")  # what is in them runs side by side
_SIDES: Final = (("head",), ("branch",), ("tower",))
_PAIRS: Final = (("h", "t"), ("actor", "critic"), ("policy", "value"), ("mu", "logvar"), ("mu", "log_std"), ("mean", "log_std"))
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


def side_by_side(linears: Sequence[Leaf]) -> Iterator[str]:
    """A sentence where two parts are called as those that take the same are (heads, models of an ensemble), and are as wide."""
    firsts: dict[tuple[str, str], Leaf] = {}
    for leaf in linears:
        above, names = "", leaf.path[-120:].lower().split(".")
        for name in names:
            firsts.setdefault((above, name), leaf)
            above = f"{above}.{name}"
    beside: dict[tuple[str, tuple[str, ...]], Leaf] = {}
    for (above, name), leaf in firsts.items():
        holder = above.rpartition(".")[2]
        kinds = [*(pair for pair in _PAIRS if name in pair), *(side for side in _SIDES if name.startswith(side))]
        for kind in [(holder,)] if holder in _LISTS else kinds:
            other = beside.setdefault((above, kind), leaf)
            if other is not leaf and other.shape[1] == leaf.shape[1]:
                yield f"{other} and {leaf} are called as layers side by side, which take the same"
                return


def back_and_forth(linears: Sequence[Leaf]) -> Iterator[str]:
    """The same detour twice, a → b → a → b → a: blocks that stand beside a connection or beside each other, not in a chain."""
    for (first, second), (third, fourth) in zip(pairwise(linears), pairwise(linears[2:]), strict=False):
        if first.shape == third.shape and second.shape == fourth.shape == first.shape[::-1] != first.shape:
            yield f"{first} and {third} both lead away from {first.shape[1]} and back: blocks side by side, or with ways around?"
            return
