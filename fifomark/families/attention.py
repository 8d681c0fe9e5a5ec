"""Where attention is: nn.MultiheadAttention, and hand-written projections under the names that people give them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from fifomark.core.text import shown
from fifomark.families.layers import Kind, Layers, Leaf, listed

_WORDS = {
    "q": ("q", "query", "queries"),
    "k": ("k", "key", "keys"),
    "v": ("v", "value", "values"),
    "kv": ("kv",),
    "qkv": ("qkv", "kqv", "query_key_value", "c_attn"),
}
_FORMS = ("{}", "{}_proj", "proj_{}", "{}proj", "to_{}", "w{}", "w_{}", "{}_lin", "lin_{}", "{}_linear", "linear_{}", "fc_{}", "{}_fc")
_MORE_FORMS = ("{}_layer", "{}_projection", "{}_dense", "attn_{}", "in_{}")
ROLES: Mapping[str, str] = {form.format(word): role for role, words in _WORDS.items() for word in words for form in (*_FORMS, *_MORE_FORMS)}


@dataclass(frozen=True)
class Site:
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
            return f"{self.leaves[0]}: query, key and value in one, 3 × {self.width}"
        return f"{shown(self.path, 80) or 'the root'}: {listed(self.leaves)}"


def sites(layers: Layers) -> tuple[Site, ...]:
    return (*_stock(layers), *_written(layers))


def _stock(layers: Layers) -> Iterator[Site]:
    for leaf in layers.of(Kind.ATTENTION):
        if len(leaf.shape) == 2:
            out = layers.by_path.get(f"{leaf.path}.out_proj" if leaf.path else "out_proj")
            yield Site(leaf.path, (leaf, out) if out else (leaf,), leaf.shape[1], fused="in_proj_weight" in leaf.tensors)


def _written(layers: Layers) -> Iterator[Site]:
    parents: dict[str, dict[str, Leaf]] = {}
    for leaf in layers.of(Kind.LINEAR, Kind.MATRIX, Kind.OTHER):
        if role := ROLES.get(leaf.last.lower()) if len(leaf.last) <= 24 else None:
            parents.setdefault(leaf.parent, {})[role] = leaf
    for parent, roles in parents.items():
        site = _fused(parent, roles) or _separate(parent, roles)
        if site:
            yield site


def _fused(parent: str, roles: Mapping[str, Leaf]) -> Site | None:
    leaf = roles.get("qkv")
    if leaf is None or len(leaf.shape) != 2:
        return None
    rows, columns = leaf.shape
    turned = columns == 3 * rows and rows != 3 * columns
    return Site(parent, (leaf,), rows if turned else columns, fused=True, turned=turned)


def _separate(parent: str, roles: Mapping[str, Leaf]) -> Site | None:
    leaves = tuple(roles[role] for role in (("q", "k", "v") if "kv" not in roles else ("q", "kv")) if role in roles)
    if not ({"q", "k", "v"} <= roles.keys() or {"q", "kv"} <= roles.keys()):
        return None
    if any(len(leaf.shape) not in (2, 3) or 0 in leaf.shape for leaf in leaves) or len({leaf.shape[1] for leaf in leaves[1:]}) != 1:
        return None
    return Site(parent, leaves, leaves[0].shape[-1], fused=False)
