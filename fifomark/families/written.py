"""Encoder blocks written by hand: attention under any of the usual names, two norms, a feed-forward part. Roles come from the shapes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from fifomark.families.attention import Site, sites
from fifomark.families.layers import Kind, Layers, Leaf, listed

_DEEP = 16  # modules of a path that are looked through, from below
_MOST = 256  # attentions; no honest encoder has more
_LINEAR = (Kind.LINEAR, Kind.MATRIX)
_MASKS = ("mask", "bias", "tril", "causal_mask", "attn_mask")


@dataclass(frozen=True)
class Written:
    """One block: its path, its attention, what projects the attention's output (None: nothing does), feed-forward part, norms.

    `norms`: that of the attention, that of the feed-forward part. `masks`: buffers that hide later steps.
    """

    path: str
    site: Site
    out: Leaf | None
    widen: Leaf
    narrow: Leaf
    norms: tuple[Leaf, Leaf]
    masks: tuple[Leaf, ...]

    @property
    def width(self) -> int:
        return self.site.width

    @property
    def leaves(self) -> tuple[Leaf, ...]:
        out = (self.out,) if self.out and self.out not in self.site.leaves else ()
        return (*self.site.leaves, *out, self.widen, self.narrow, *self.norms, *self.masks)

    @property
    def anchor(self) -> Leaf:
        return self.site.leaves[0]

    @property
    def stock(self) -> bool:
        """Whether its attention is nn.MultiheadAttention."""
        return self.anchor.kind is Kind.ATTENTION

    @property
    def feedforward(self) -> int:
        return self.widen.shape[0]


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
    norms = [leaf for leaf in rest if leaf.kind is Kind.NORM and leaf.shape == (site.width,)]
    linears = [leaf for leaf in rest if leaf.kind in _LINEAR]
    known = {*masks, *norms, *linears}
    if place and (strange := [leaf for leaf in rest if leaf not in known and leaf.kind is not Kind.COUNTER]):
        return f"nothing says what {listed(strange)} is for"
    if len(norms) != 2:
        return f"two norms of {site.width} are expected beside it, there are {len(norms)}" + (f": {listed(norms)}" if norms else "")
    out = _out(place, site, linears)
    others = [leaf for leaf in linears if leaf is not out and leaf not in site.leaves]
    pairs = [(a, b) for a, b in pairwise(others) if a.shape == b.shape[::-1] and a.shape[1] == site.width]
    if len(pairs) != 1 or (place and len(others) != 2):
        wanted = f"two layers from {site.width} to some width and back are expected beside it"
        return f"{wanted}, there are {listed(others, 4) or 'none'}"
    if out is None and _inner(site) != site.width:
        return f"a layer from {_inner(site)} back to {site.width} is expected beside it"
    return Written(place, site, out, *pairs[0], (norms[0], norms[1]), masks)


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
        return "its weights are (in, out)" if site.turned else None if rows % 3 == 0 else f"{rows} rows are not three times the same"
    if len(site.leaves) != (4 if _listed(site) else 3):
        return "keys and values, or queries and keys, are one matrix"
    if len({leaf.shape for leaf in site.leaves}) != 1:
        return "queries, keys and values have different shapes"
    return None


def _listed(site: Site) -> bool:
    """Whether the projections are a list, of which the fourth is that of the output."""
    return site.leaves[-1].last == "3"


def _inner(site: Site) -> int:
    """How many numbers the heads give together."""
    return site.leaves[0].shape[0] // 3 if site.fused else site.leaves[0].shape[0]


def _out(place: str, site: Site, linears: Sequence[Leaf]) -> Leaf | None:
    """The output projection: below the attention or the module that holds it; otherwise the first of three that fits."""
    if site.leaves[0].kind is Kind.ATTENTION:
        return site.leaves[1]
    if _listed(site):
        return site.leaves[3]
    fitting = [leaf for leaf in linears if leaf.shape == (site.width, _inner(site))]
    for above in (site.path, site.path.rpartition(".")[0]):
        if above and above != place:
            near = [leaf for leaf in fitting if leaf.path.startswith(above + ".")]
            if near:
                return near[0] if len(near) == 1 else None
    return fitting[0] if place and len(linears) == 3 and fitting else None
