"""Encoder blocks written by hand, as torch modules: the formulas of the papers, in the order that the rubric declares."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

from fifomark.families import nets
from fifomark.families.written import Written

_AS_ASKED = "Build the model as the task asks, and train it again."


def run(model: nets.Assembly, block: Written, declared: Mapping[str, Any]) -> None:
    """The block held and run next."""
    attend = _stock(model, block, declared) if block.stock else _by_hand(model, block, declared)
    norms = [model.hold(norm.path, nets.layer(model.family, norm, eps=declared["norm_eps"])) for norm in block.norms]
    ends = [model.hold(leaf.path, nets.layer(model.family, leaf)) for leaf in (block.widen, block.narrow)]
    for mask in block.masks:
        model.hold(mask.path, torch.zeros(mask.shape, dtype=getattr(torch, mask.weight.dtype)))
    feed = nn.Sequential(ends[0], nets.ACTIVATIONS[declared["activation"]](), ends[1])
    model.then(_Block(attend, feed, norms[0], norms[1], declared["norm_first"]))


class _Block:
    """x + f(norm(x)) for both parts, or norm(x + f(x))."""

    def __init__(self, attend: nets.Step, feed: nets.Step, first: nn.Module, second: nn.Module, norm_first: bool) -> None:
        self.parts, self.norm_first = ((attend, first), (feed, second)), norm_first

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        for part, norm in self.parts:
            x = x + part(norm(x)) if self.norm_first else norm(x + part(x))
        return x


class _Attention:
    """Scaled dot products over `heads`. `project` gives query, key and value of x, each (N, T, inner)."""

    def __init__(self, project: nets.Step, out: nn.Module | None, heads: int, causal: bool) -> None:
        self.project, self.out, self.heads, self.causal = project, out, heads, causal

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (each.unflatten(-1, (self.heads, -1)).transpose(1, 2) for each in self.project(x))
        mixed = scaled_dot_product_attention(q, k, v, is_causal=self.causal).transpose(1, 2).flatten(2)
        return self.out(mixed) if self.out is not None else mixed


def _by_hand(model: nets.Assembly, block: Written, declared: Mapping[str, Any]) -> nets.Step:
    site, heads = block.site, declared["nhead"]
    inner = site.leaves[0].shape[0] // (3 if site.fused else 1)
    if inner % heads:
        model.refuse(site.leaves[0], f"{inner} is no multiple of nhead = {heads}", _AS_ASKED)
    held = [model.hold(leaf.path, nets.layer(model.family, leaf)) for leaf in site.leaves if leaf is not block.out]
    out = model.hold(block.out.path, nets.layer(model.family, block.out)) if block.out else None
    project = _Fused(held[0], heads, declared["fused_order"]) if site.fused else _Separate(*held)  # query, key, value, as sites list them
    return _Attention(project, out, heads, _causal(block, declared))


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
