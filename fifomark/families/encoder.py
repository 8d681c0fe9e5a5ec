"""Which part each tensor plays in a network around encoder blocks: nn.TransformerEncoderLayer, or written by hand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from fifomark.core.weights import TensorSpec
from fifomark.families.chain import in_order
from fifomark.families.layers import Kind, Layers, Leaf, listed
from fifomark.families.names import wrapping
from fifomark.families.written import Written, written

_PARTS = ("self_attn", "self_attn.out_proj", "linear1", "linear2", "norm1", "norm2")
_DEEP = 64  # deeper than any honest module
_LINEAR = (Kind.LINEAR, Kind.MATRIX)


class Block(NamedTuple):
    """One nn.TransformerEncoderLayer: its path ("" the root), its leaves by the names that torch gives them."""

    path: str
    parts: dict[str, Leaf]

    @property
    def width(self) -> int:
        return self.parts["self_attn"].shape[1]

    @property
    def anchor(self) -> Leaf:
        return self.parts["self_attn"]

    @property
    def leaves(self) -> tuple[Leaf, ...]:
        return tuple(self.parts.values())

    @property
    def feedforward(self) -> int:
        return self.parts["linear1"].shape[0]

    @property
    def bias(self) -> bool:
        return "in_proj_bias" in self.parts["self_attn"].parts

    def tensors(self) -> dict[str, TensorSpec]:
        return {f"{part}.{local}": spec for part, leaf in self.parts.items() for local, spec in leaf.tensors.items()}


class Encoder(NamedTuple):
    """The whole: what makes tokens of an example, positions, a class token, the blocks, linear layers.

    Norms: `token_norms` stand before the blocks in the file, `head_norms` in one module with the linear layers at the end (they run after
    pooling), `norms` anywhere else (after the blocks, as nn.TransformerEncoder's own).
    """

    blocks: tuple[Block, ...] | tuple[Written, ...]
    stem: Leaf | None
    positions: Leaf | None
    cls: Leaf | None
    token_norms: tuple[Leaf, ...]
    norms: tuple[Leaf, ...]
    head_norms: tuple[Leaf, ...]
    head: tuple[Leaf, ...]

    @property
    def width(self) -> int:
        return self.blocks[0].width

    @property
    def embeds(self) -> bool:
        """Whether examples are token ids."""
        return self.stem is not None and self.stem.kind is Kind.MATRIX and self.stem.shape[1] == self.width


def blocks(layers: Layers) -> tuple[Block, ...]:
    """The complete nn.TransformerEncoderLayers, in the order of the file."""
    found = []
    for leaf in layers.of(Kind.ATTENTION):
        if leaf.last == "self_attn" and "in_proj_weight" in leaf.parts and len(leaf.shape) == 2:
            above = f"{leaf.parent}." if leaf.parent else ""
            parts = {part: layers.by_path[above + part] for part in _PARTS if above + part in layers.by_path}
            if len(parts) == len(_PARTS) and f"{above}multihead_attn" not in layers.by_path and len(parts["linear1"].shape) == 2:
                found.append(Block(leaf.parent, parts))
    return tuple(found)


def plan(layers: Layers) -> Encoder | str:
    """The parts of the network; or what stands in the way of reading it as an encoder, in words."""
    return layers.once(_plan)


def _plan(layers: Layers) -> Encoder | str:
    found: tuple[Block, ...] | tuple[Written, ...] | str = blocks(layers) or written(layers)
    if isinstance(found, str):
        return f"its attention is not that of nn.TransformerEncoderLayer, and {found}"
    inside = {leaf for block in found for leaf in block.leaves}
    if wrapped := [leaf for leaf in inside if not leaf.plain and isinstance(found[0], Block)]:
        return f"{listed(wrapped)} is behind a {wrapping(wrapped[0].tensors)} inside nn.TransformerEncoderLayer"
    rest = [leaf for leaf in layers.leaves if leaf not in inside and leaf.kind is not Kind.COUNTER]
    unfit = (Kind.ATTENTION, Kind.RECURRENT, Kind.CELL, Kind.BATCHNORM)
    width = found[0].width
    if strange := [leaf for leaf in rest if leaf.kind in unfit or (leaf.kind is Kind.SCALE and leaf.shape != (width,))]:
        return f"beside the encoder layers there is {listed(strange)}"
    return _assigned(layers, found, rest)


def _assigned(layers: Layers, found: tuple[Block, ...] | tuple[Written, ...], rest: list[Leaf]) -> Encoder | str:
    width = found[0].width
    block = set(found[0].leaves)
    begin = next(at for at, leaf in enumerate(layers.leaves) if leaf in block)
    early = set(layers.leaves[:begin])
    tables = [leaf for leaf in rest if leaf.kind is Kind.MATRIX and leaf.shape[1] == width and (leaf in early or _says_position(leaf))]
    bare = [leaf for leaf in rest if leaf.kind is Kind.OTHER]
    cls = next((leaf for leaf in bare if leaf.shape == (1, 1, width) and _says_class(leaf)), None)
    positions = next((leaf for leaf in bare if leaf is not cls and _is_positions(leaf.shape, width)), None)
    if positions is None:
        positions = _position_table(tables, rest, width)
    stem = _stem([leaf for leaf in rest if leaf is not positions], width, early)
    norms = [leaf for leaf in rest if leaf.kind in (Kind.NORM, Kind.SCALE)]
    linears = [leaf for leaf in rest if leaf.kind in _LINEAR and leaf not in (stem, positions)]
    used = {stem, positions, cls, *norms, *linears}
    if left := [leaf for leaf in rest if leaf not in used]:
        return f"nothing says what {listed(left)} is for"
    head = in_order(linears) if linears else ()
    if head is None or (head and head[0].shape[1] != width):
        return f"the linear layers at the end do not follow each other: {listed(linears)}"
    first = tuple(norm for norm in norms if norm in early)
    around = {path for block in found for path in _above(block.path)}
    in_head = {linear.parent for linear in head} - around
    late = [norm for norm in norms if norm not in early]
    last = tuple(norm for norm in late if norm.parent in in_head)
    between = tuple(norm for norm in late if norm.parent not in in_head)
    return Encoder(found, stem, positions, cls, first, between, last, head)


def _above(path: str) -> Iterator[str]:
    """The modules that hold the one at `path`, the nearest first, "" the last."""
    for _ in range(min(path.count("."), _DEEP)):
        path = path.rpartition(".")[0]
        yield path
    yield ""


def _stem(candidates: Sequence[Leaf], width: int, early: set[Leaf]) -> Leaf | None:
    """What makes tokens: before the blocks in the file, or else the first linear layer that cannot be part of the head."""
    makers = [leaf for leaf in candidates if _makes_tokens(leaf, width)]
    first = next((leaf for leaf in makers if leaf in early), None)
    return first or next((leaf for leaf in makers if leaf.kind is Kind.CONV or leaf.shape[1] != width), None)


def _makes_tokens(leaf: Leaf, width: int) -> bool:
    if leaf.kind is Kind.MATRIX and leaf.shape[1] == width:
        return True
    return leaf.kind in (*_LINEAR, Kind.CONV) and leaf.shape[0] == width


def _position_table(tables: Sequence[Leaf], rest: Sequence[Leaf], width: int) -> Leaf | None:
    """An nn.Embedding of positions: called so, or the second of two, or beside a linear layer or convolution that makes the tokens."""
    if named := [leaf for leaf in tables if _says_position(leaf)]:
        return named[0]
    if len(tables) == 2:
        return tables[1]
    makers = [leaf for leaf in rest if leaf.kind in (Kind.LINEAR, Kind.CONV) and leaf.shape[0] == width != leaf.shape[1]]
    return tables[0] if tables and makers else None


def _is_positions(shape: tuple[int, ...], width: int) -> bool:
    return len(shape) in (2, 3) and shape[-1] == width and (len(shape) == 2 or 1 in shape[:2])


def _says_position(leaf: Leaf) -> bool:
    return "pos" in leaf.path[-200:].lower() or leaf.last.lower() == "pe"


def _says_class(leaf: Leaf) -> bool:
    return "cls" in leaf.path[-200:].lower() or "class" in leaf.path[-200:].lower()
