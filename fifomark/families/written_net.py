"""Encoder blocks written by hand, as torch modules: the formulas of the papers, in the order that the rubric declares."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

from fifomark.families import nets
from fifomark.families.layers import Kind, Leaf
from fifomark.families.written import Written

_AS_ASKED = "Build the model as the task asks, and train it again."


def run(model: nets.Assembly, block: Written, declared: Mapping[str, Any]) -> None:
    """The block held and run next."""
    attend = _stock(model, block, declared) if block.stock else _by_hand(model, block, declared)
    norms = [model.hold(norm.path, _norm(model, norm, declared)) for norm in block.norms]
    widen, narrow = (model.hold(leaf.path, _linear(model, block, leaf)) for leaf in (block.widen, block.narrow))
    gate = model.hold(block.gate.path, _linear(model, block, block.gate)) if block.gate else None
    for mask in block.masks:
        model.hold(mask.path, torch.zeros(mask.shape, dtype=getattr(torch, mask.weight.dtype)))
    feed = _Feed(widen, nets.ACTIVATIONS[declared["activation"]](), narrow, gate)
    model.then(_Block(attend, feed, norms[0], norms[1], declared["norm_first"]))


def _norm(model: nets.Assembly, leaf: Leaf, declared: Mapping[str, Any]) -> nn.Module:
    if leaf.kind is Kind.SCALE:
        return nets.bare_norm(model.family, leaf, declared["bare_norm"], declared["norm_eps"])
    return nets.layer(model.family, leaf, eps=declared["norm_eps"])


def _linear(model: nets.Assembly, block: Written, leaf: Leaf) -> nn.Module:
    return nets.turned(model.family, leaf) if block.site.turned else nets.layer(model.family, leaf)


class _Feed:
    """narrow(f(widen(x))), or narrow(f(gate(x)) · widen(x))."""

    def __init__(self, widen: nn.Module, activation: nn.Module, narrow: nn.Module, gate: nn.Module | None) -> None:
        self.widen, self.activation, self.narrow, self.gate = widen, activation, narrow, gate

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        wide = self.activation(self.widen(x)) if self.gate is None else self.activation(self.gate(x)) * self.widen(x)
        narrowed: torch.Tensor = self.narrow(wide)
        return narrowed


class _Block:
    """x + f(norm(x)) for both parts, or norm(x + f(x))."""

    def __init__(self, attend: nets.Step, feed: nets.Step, first: nn.Module, second: nn.Module, norm_first: bool) -> None:
        self.parts, self.norm_first = ((attend, first), (feed, second)), norm_first

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        for part, norm in self.parts:
            x = x + part(norm(x)) if self.norm_first else norm(x + part(x))
        return x


class _Attention:
    """Scaled dot products over heads of `size`. `project` gives query, key and value of x, each (N, T, a multiple of `size`); `turn` makes
    of queries and keys (N, heads, T, size) what depends on their positions."""

    def __init__(self, project: nets.Step, out: nn.Module | None, size: int, causal: bool, turn: nets.Step | None) -> None:
        self.project, self.out, self.size, self.causal, self.turn = project, out, size, causal, turn

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (each.unflatten(-1, (-1, self.size)).transpose(1, 2) for each in self.project(x))
        if self.turn is not None:
            q, k = self.turn(q), self.turn(k)
        if k.shape[1] != q.shape[1]:  # several queries to a key
            k, v = (each.repeat_interleave(q.shape[1] // each.shape[1], dim=1) for each in (k, v))
        mixed = scaled_dot_product_attention(q, k, v, is_causal=self.causal).transpose(1, 2).flatten(2)
        return self.out(mixed) if self.out is not None else mixed


def _by_hand(model: nets.Assembly, block: Written, declared: Mapping[str, Any]) -> nets.Step:
    site, heads = block.site, declared["nhead"]
    if block.inner % heads:
        model.refuse(site.leaves[0], f"{block.inner} is no multiple of nhead = {heads}", _AS_ASKED)
    size = block.inner // heads
    for leaf in site.leaves[1:] if not site.fused else ():
        if leaf.shape[0] % size:
            model.refuse(leaf, f"{leaf.shape[0]} is no multiple of {size}, the width of one of {heads} heads", _AS_ASKED)
    held = [model.hold(leaf.path, _linear(model, block, leaf)) for leaf in site.leaves if leaf is not block.out]
    out = model.hold(block.out.path, _linear(model, block, block.out)) if block.out else None
    project = _Fused(held[0], heads, declared["fused_order"]) if site.fused else _Separate(*held)  # query, key, value, as sites list them
    return _Attention(project, out, size, _causal(block, declared), _rotary(model, block, size, declared))


def _rotary(model: nets.Assembly, block: Written, size: int, declared: Mapping[str, Any]) -> nets.Step | None:
    if declared["rotary"] == "none":
        return None
    if size % 2:
        model.refuse(block.anchor, f"heads of {size} have no pairs to turn, as rotary = {declared['rotary']} asks", _AS_ASKED)
    return _Turn(declared["rotary"] == "halves", declared["rotary_base"])


class _Turn:
    """Rotary positions (Su et al., RoFormer, 2021): number i of a head and its partner are turned by position · base^(−2i / size)."""

    def __init__(self, halves: bool, base: float) -> None:
        self.halves, self.base = halves, base

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        steps, size = x.shape[-2:]
        speeds = self.base ** (-torch.arange(0, size, 2, device=x.device, dtype=torch.float32) / size)
        angles = torch.arange(steps, device=x.device, dtype=torch.float32)[:, None] * speeds
        cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
        one, other = x.chunk(2, dim=-1) if self.halves else (x[..., 0::2], x[..., 1::2])
        turned = (one * cos - other * sin, other * cos + one * sin)
        return torch.cat(turned, dim=-1) if self.halves else torch.stack(turned, dim=-1).flatten(-2)


class _Separate:
    def __init__(self, query: nn.Module, key: nn.Module, value: nn.Module) -> None:
        self.projections = (query, key, value)

    def __call__(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(projection(x) for projection in self.projections)


class _Fused:
    """One matrix: all queries, all keys, all values; or a query, a key and a value for each head in turn."""

    def __init__(self, projection: nn.Module, heads: int, order: str) -> None:
        self.projection, self.heads, self.order = projection, heads, order

    def __call__(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        both = self.projection(x)
        if self.order == "per_head":
            return tuple(part.flatten(-2) for part in both.unflatten(-1, (self.heads, -1)).chunk(3, dim=-1))
        parts: tuple[torch.Tensor, ...] = both.chunk(3, dim=-1)
        return parts


class _Stock:
    def __init__(self, attention: nn.Module, causal: bool) -> None:
        self.attention, self.causal = attention, causal

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        later = nn.Transformer.generate_square_subsequent_mask(x.shape[1], device=x.device, dtype=x.dtype) if self.causal else None
        mixed: torch.Tensor = self.attention(x, x, x, attn_mask=later, is_causal=self.causal, need_weights=False)[0]
        return mixed


def _stock(model: nets.Assembly, block: Written, declared: Mapping[str, Any]) -> nets.Step:
    leaf, out = block.site.leaves
    if block.width % declared["nhead"]:
        model.refuse(leaf, f"{block.width} is no multiple of nhead = {declared['nhead']}", _AS_ASKED)
    tensors = {**leaf.tensors, **{f"out_proj.{local}": spec for local, spec in out.tensors.items()}}
    bias = "in_proj_bias" in leaf.tensors

    def make() -> nn.Module:
        return nn.MultiheadAttention(block.width, declared["nhead"], bias=bias, batch_first=True)

    return _Stock(model.hold(leaf.path, nets.outlined(model.family, make, tensors)), _causal(block, declared))


def _causal(block: Written, declared: Mapping[str, Any]) -> bool:
    return bool(declared["causal"] or block.masks)
