"""Encoder blocks written by hand: attention under any of the usual names, two norms, a feed-forward part. Roles come from the shapes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from fifomark.families.attention import Site, sites
from fifomark.families.layers import Kind, Layers, Leaf, listed

_DEEP = 16  # modules of a path that are looked through, from below
_MOST = 256  # attentions; no honest encoder has more
_LINEAR = (Kind.LINEAR, Kind.MATRIX)
_GATES = ("w1", "w_1", "linear_v")  # LLaMA's own name is w1, for the gate
_MASKS = ("mask", "bias", "tril", "causal_mask", "attn_mask")


class Written(NamedTuple):
    """One block: its path, its attention, what projects the attention's output (None: nothing does), feed-forward part, norms.

    `norms`: that of the attention, that of the feed-forward part. `masks`: buffers that hide later steps. `gate`: what the widened numbers
    are multiplied with (SwiGLU and its kind). Where the attention is turned, every matrix is (in, out), as GPT-2 has them.
    """

    path: str
    site: Site
    out: Leaf | None
    widen: Leaf
    narrow: Leaf
    norms: tuple[Leaf, Leaf]
    masks: tuple[Leaf, ...]
    gate: Leaf | None = None

    @property
    def width(self) -> int:
        return self.site.width

    @property
    def leaves(self) -> tuple[Leaf, ...]:
        out = (self.out,) if self.out and self.out not in self.site.leaves else ()
        gate = (self.gate,) if self.gate else ()
        return (*self.site.leaves, *out, self.widen, *gate, self.narrow, *self.norms, *self.masks)

    @property
    def anchor(self) -> Leaf:
        return self.site.leaves[0]

    @property
    def stock(self) -> bool:
        """Whether its attention is nn.MultiheadAttention."""
        return self.anchor.kind is Kind.ATTENTION

    @property
    def inner(self) -> int:
        """How many numbers all queries have together."""
        return _inner(self.site)

    @property
    def feedforward(self) -> int:
        return self.widen.shape[1 if self.site.turned else 0]


def written(layers: Layers) -> tuple[Written, ...] | str:
    """A block for each attention; or what stands in the way of that, in words."""
    return layers.once(_written)


def _written(layers: Layers) -> tuple[Written, ...] | str:
    attention = sites(layers)
    if len(attention) > _MOST:
        return f"there are {len(attention)} attentions, where at most {_MOST} are built"
    members: dict[str, list[Leaf]] = {place: [] for site in attention for place in _places(site.path)}
    crowd = dict.fromkeys(members, 0)
    for site in attention:
        for place in _places(site.path):
            crowd[place] += 1
    for leaf in layers.leaves:
        for place in _places(leaf.path):
            if place in members:
                members[place].append(leaf)
    found = []
    for site in attention:
        alone = [place for place in _places(site.path) if crowd[place] == 1]
        read = [_block(place, site, members[place]) for place in alone]
        block = next((one for one in read if isinstance(one, Written)), None)
        if block is None:
            return f"{site} stands alone" if not read else f"{site} is no block that can be built: {read[-1]}"
        found.append(block)
    return tuple(found)


def _places(path: str) -> Iterator[str]:
    """The module itself and those that hold it, the nearest first, "" the last."""
    for _ in range(_DEEP):
        if not path:
            break
        yield path
        path = path.rpartition(".")[0]
    yield ""


def _block(place: str, site: Site, members: Sequence[Leaf]) -> Written | str:
    """The block that the module `place` is; or what is missing. The root may hold other linear layers as well."""
    if flaw := _flaw(site):
        return flaw
    rest = [leaf for leaf in members if leaf not in site.leaves]
    masks = tuple(leaf for leaf in rest if leaf.kind is Kind.OTHER and leaf.last in _MASKS and leaf.shape[-1:] == leaf.shape[-2:-1])
    norms = [leaf for leaf in rest if leaf.kind in (Kind.NORM, Kind.SCALE) and leaf.shape == (site.width,)]
    linears = [leaf for leaf in rest if leaf.kind in _LINEAR]
    known = {*masks, *norms, *linears}
    if place and (strange := [leaf for leaf in rest if leaf not in known and leaf.kind is not Kind.COUNTER]):
        return f"nothing says what {listed(strange)} is for"
    if len(norms) != 2:
        return f"two norms of {site.width} are expected beside it, there are {len(norms)}" + (f": {listed(norms)}" if norms else "")
    out = _out(place, site, linears)
    others = [leaf for leaf in linears if leaf is not out and leaf not in site.leaves]
    feed = _feed_forward(place, site, others)
    if feed is None:
        wanted = f"two layers from {site.width} to some width and back are expected beside it, or three with a gate"
        return f"{wanted}, there are {listed(others, 4) or 'none'}"
    if out is None and _inner(site) != site.width:
        return f"a layer from {_inner(site)} back to {site.width} is expected beside it"
    widen, narrow, gate = feed
    return Written(place, site, out, widen, narrow, (norms[0], norms[1]), masks, gate)


def _feed_forward(place: str, site: Site, others: Sequence[Leaf]) -> tuple[Leaf, Leaf, Leaf | None] | None:
    """What widens, what narrows, and the gate; None where it is neither the two of them nor the three."""
    arrives = 0 if site.turned else 1
    pairs = [(a, b) for a, b in pairwise(others) if a.shape == b.shape[::-1] and a.shape[arrives] == site.width]
    if len(pairs) == 1 and (not place or len(others) == 2):
        return *pairs[0], None
    wide = [leaf for leaf in others if leaf.shape[arrives] == site.width]
    narrow = [leaf for leaf in others if leaf not in wide]
    if not place or len(wide) != 2 or len(narrow) != 1 or any(leaf.shape != narrow[0].shape[::-1] for leaf in wide):
        return None
    gate = next((leaf for leaf in wide if "gate" in leaf.last.lower() or leaf.last.lower() in _GATES), wide[0])
    return next(leaf for leaf in wide if leaf is not gate), narrow[0], gate


def _flaw(site: Site) -> str | None:
    """Why this attention itself cannot be built."""
    first = site.leaves[0]
    if first.kind is Kind.ATTENTION:
        sound = site.fused and len(site.leaves) == 2 and first.shape == (3 * site.width, site.width)
        return None if sound and first.plain else "its parts are not those of nn.MultiheadAttention"
    if any(leaf.kind not in _LINEAR for leaf in site.leaves):
        return "its projections are no linear layers"
    if site.fused:
        rows = first.shape[0]
        return None if site.turned or rows % 3 == 0 else f"{rows} rows are not three times the same"
    if len(site.leaves) != (4 if _listed(site) else 3):
        return "keys and values, or queries and keys, are one matrix"
    query, key, *others = site.leaves
    if any(leaf.shape != key.shape for leaf in others) or query.shape[1] != key.shape[1] or query.shape[0] % key.shape[0]:
        return "queries, keys and values have different shapes, and not those of several queries to a key"
    return None


def _listed(site: Site) -> bool:
    """Whether the projections are a list, of which the fourth is that of the output."""
    return site.leaves[-1].last == "3"


def _inner(site: Site) -> int:
    """How many numbers the heads give together."""
    outputs = site.leaves[0].shape[1 if site.turned else 0]
    return outputs // 3 if site.fused else outputs


def _out(place: str, site: Site, linears: Sequence[Leaf]) -> Leaf | None:
    """The output projection: below the attention or the module that holds it; otherwise the first of three that fits."""
    if site.leaves[0].kind is Kind.ATTENTION:
        return site.leaves[1]
    if _listed(site):
        return site.leaves[3]
    shape = (_inner(site), site.width) if site.turned else (site.width, _inner(site))
    fitting = [leaf for leaf in linears if leaf.shape == shape]
    for above in (site.path, site.path.rpartition(".")[0]):
        if above and above != place:
            near = [leaf for leaf in fitting if leaf.path.startswith(above + ".")]
            if near:
                return near[0] if len(near) == 1 else None
    return fitting[0] if place and len(linears) == 3 and fitting else None
