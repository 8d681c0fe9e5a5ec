"""Where attention is: nn.MultiheadAttention, and hand-written projections by the parts that their names give them.

A name is read as words: "W_Q", "toqueries", "query_proj", "queryLinear" all say query. What it says must fit the shapes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Final, NamedTuple

from fifomark.core.text import shown
from fifomark.families.layers import Kind, Layers, Leaf, listed

_WORDS: Final = {
    **dict.fromkeys(("q", "query", "queries", "qs"), "q"),
    **dict.fromkeys(("k", "key", "keys", "ks"), "k"),
    **dict.fromkeys(("v", "value", "values", "vs"), "v"),
    "kv": "kv",
    "qk": "qk",
    **dict.fromkeys(("qkv", "kqv"), "qkv"),
}
_WHOLE: Final = {"query_key_value": "qkv", "c_attn": "qkv", "w_pack": "qkv", "in_proj": "qkv", "query_key": "qk", "key_value": "kv"}
_LAYERS: Final = ("proj", "projection", "projector", "project", "lin", "linear", "layer", "fc", "dense", "conv", "net", "head", "heads")
_MATRICES: Final = ("w", "weight", "weights", "matrix", "mat", "map", "mapping", "mappings", "transform", "embed")
_PLACES: Final = ("attn", "att", "attention", "self", "in", "to", "a", "b", "c", "with", "mqa")
_FILL: Final = frozenset((*_LAYERS, *_MATRICES, *_PLACES))  # words that stand beside any of the roles
_HOLDERS: Final = ("attn", "attention", "mha", "selfattention", "multihead", "multiheadattention")
_LONGEST = 32  # no honest name of a projection is longer


@lru_cache(maxsize=4096)
def role(name: str) -> str | None:
    """ "q", "k", "v", "kv", "qk" or "qkv" by the last part of a path; None for any other name."""
    low = name.lower()
    if low in _WHOLE:
        return _WHOLE[low]
    words = [word for word in words_of(name) if word not in _FILL]
    if len(words) != 1:
        return None
    word = words[0]
    shorter = next((word[len(start) :] for start in ("to", "w", "fc", "lin") if word.startswith(start)), "")
    longer = next((word[: -len(end)] for end in ("proj", "linear", "lin") if word.endswith(end)), "")
    return _WORDS.get(word) or _WORDS.get(shorter) or _WORDS.get(longer)


def words_of(name: str) -> list[str]:
    """ "queryLinear_2" → ["query", "linear", "2"]"""
    if name.islower():
        return [word for word in name.split("_") if word]
    broken = (f"_{here}" if here.isupper() and before.islower() else here for before, here in zip(f"_{name}", name, strict=False))
    return [word for word in "".join(broken).lower().split("_") if word]


class Site(NamedTuple):
    """One attention: the module that holds it, the leaves of its projections, the width of what comes in.

    `fused`: query, key and value are one matrix. `turned`: weights are (in, out).
    """

    path: str
    leaves: tuple[Leaf, ...]
    width: int
    fused: bool
    turned: bool = False

    def __str__(self) -> str:
        if self.fused:
            return f"{self.leaves[0]}: query, key and value in one, of {self.width}"
        return f"{shown(self.path, 80) or 'the root'}: {listed(self.leaves)}"


def sites(layers: Layers) -> tuple[Site, ...]:
    return layers.once(_sites)


def _sites(layers: Layers) -> tuple[Site, ...]:
    return (*_stock(layers), *_written(layers))


def _stock(layers: Layers) -> Iterator[Site]:
    for leaf in layers.of(Kind.ATTENTION):
        if len(leaf.shape) == 2:
            out = layers.by_path.get(f"{leaf.path}.out_proj" if leaf.path else "out_proj")
            yield Site(leaf.path, (leaf, out) if out else (leaf,), leaf.shape[1], fused="in_proj_weight" in leaf.parts)


def _written(layers: Layers) -> Iterator[Site]:
    parents: dict[str, dict[str, Leaf]] = {}
    numbered: dict[str, list[Leaf]] = {}
    for leaf in layers.of(Kind.LINEAR, Kind.MATRIX, Kind.OTHER, Kind.CONV):
        last = leaf.last
        if len(last) > _LONGEST or (leaf.kind is Kind.CONV and any(side != 1 for side in leaf.shape[2:])):
            continue
        if what := role(last):
            parents.setdefault(leaf.parent, {}).setdefault(what, leaf)
        elif last.isdigit():
            above, _, name = leaf.parent.rpartition(".")
            if what := role(name) if len(name) <= _LONGEST else None:  # a list with one for each head
                parents.setdefault(f"{above}.{last}", {}).setdefault(what, leaf)
            elif len(last) == 1:
                numbered.setdefault(leaf.parent, []).append(leaf)
    for parent, roles in parents.items():
        site = _fused(parent, roles) or _separate(parent, roles)
        if site:
            yield site
    for parent, leaves in numbered.items():
        if site := _numbered(parent, leaves):
            yield site


def _fused(parent: str, roles: Mapping[str, Leaf]) -> Site | None:
    leaf = roles.get("qkv")
    if leaf is None or len(leaf.shape) < 2 or 0 in leaf.shape:
        return None
    rows, columns = leaf.shape[:2]
    if leaf.last.lower() == "in_proj" and (rows != 3 * columns or not _holds_attention(parent)):
        return None  # others have an "in_proj" too: Mamba, Hyena
    turned = columns == 3 * rows and rows != 3 * columns
    return Site(parent, (leaf,), rows if turned else columns, fused=True, turned=turned)


def _separate(parent: str, roles: Mapping[str, Leaf]) -> Site | None:
    names = next((names for names in (("q", "k", "v"), ("q", "kv"), ("qk", "v")) if all(name in roles for name in names)), None)
    if names is None:
        return None
    leaves = tuple(roles[name] for name in names)
    if any(len(leaf.shape) < 2 or 0 in leaf.shape for leaf in leaves):
        return None
    if len({leaf.shape[1] for leaf in leaves[1:]}) > 1 and len({leaf.shape[0] for leaf in leaves}) > 1:
        return None  # neither from one place nor to one width: layers of a chain that happen to be called so
    return Site(parent, leaves, leaves[0].shape[1], fused=False)


def _numbered(parent: str, leaves: list[Leaf]) -> Site | None:
    """Three or four square matrices in a list that an attention holds, as the Annotated Transformer has them."""
    width = leaves[0].shape[0] if leaves[0].shape else 0
    square = len(leaves) >= 3 and all(leaf.shape == (width, width) for leaf in leaves)
    return Site(parent, tuple(leaves), width, fused=False) if square and _holds_attention(parent) else None


def _holds_attention(path: str) -> bool:
    """Whether one of the last three modules of the path is called attention."""
    words = [word for name in path[-100:].split(".")[-3:] for word in words_of(name)]
    return any(word in _HOLDERS for word in words)
