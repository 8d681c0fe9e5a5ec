"""Transformer: attention in torch's own layers or written by hand. Stacks of blocks that see one sequence can be built: encoders, and
decoders of language models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from fifomark.core.errors import CannotBuild
from fifomark.core.findings import Finding
from fifomark.families.attention import Site, sites
from fifomark.families.census import patch_stem, share
from fifomark.families.chain import ACTIVATIONS
from fifomark.families.checks import bounded, expect, inside_layers, misfit
from fifomark.families.encoder import Encoder, blocks, plan
from fifomark.families.family import FACTORY, Fact, Family, Match, NotAllowed
from fifomark.families.layers import Kind, Layers, Leaf, listed
from fifomark.families.written import Written

if TYPE_CHECKING:
    from torch import nn


def _heads(value: object) -> object:
    if type(value) is not int or value < 1:
        raise NotAllowed("", f"must be a whole number from 1, found {value!r}")
    return value


def _has_hidden_head(match: Match) -> bool:
    seen = plan(match.layers)
    return isinstance(seen, Encoder) and len(seen.head) > 1


def _embeds(match: Match) -> bool:
    seen = plan(match.layers)
    return isinstance(seen, Encoder) and seen.embeds


def _eps(value: object) -> object:
    if type(value) not in (int, float) or not 0 <= float(str(value)) < 1:
        raise NotAllowed("", f"must be a number from 0 to 1, found {value!r}")
    return value


def _is_written(match: Match) -> bool:
    seen = plan(match.layers)
    return isinstance(seen, Encoder) and isinstance(seen.blocks[0], Written)


def _has_bare_norms(match: Match) -> bool:
    seen = plan(match.layers)
    return isinstance(seen, Encoder) and any(leaf.kind is Kind.SCALE for leaf in match.layers.leaves)


def _may_turn(match: Match) -> bool:
    """By hand, and without positions in the file."""
    seen = plan(match.layers)
    return isinstance(seen, Encoder) and seen.positions is None and isinstance(seen.blocks[0], Written) and not seen.blocks[0].stock


def _base(value: object) -> object:
    if type(value) not in (int, float) or not 1 < float(str(value)) <= 1e12:
        raise NotAllowed("", f"must be a number above 1, found {value!r}")
    return float(str(value))


def _is_fused(match: Match) -> bool:
    seen = plan(match.layers)
    return isinstance(seen, Encoder) and any(isinstance(one, Written) and one.site.fused and not one.stock for one in seen.blocks)


class Transformer(Family):
    name = "transformer"
    facts: ClassVar[Mapping[str, Fact]] = {
        "nhead": Fact("the number of attention heads", parse=_heads),
        "activation": Fact("that of the feed-forward part", "relu", ("relu", "gelu", "gelu_tanh", "silu")),
        "norm_first": Fact(
            "whether each norm comes before its attention or feed-forward part, as in nn.TransformerEncoderLayer", False, (False, True)
        ),
        "pooling": Fact(
            "what of the tokens goes on: their mean or maximum, the class token, the first or the last; or each of them (none)",
            "mean",
            ("mean", "cls", "first", "last", "max", "none"),
        ),
        "head_activation": Fact("what stands between the linear layers at the end", "relu", ACTIVATIONS, matters=_has_hidden_head),
        "causal": Fact("whether no token looks at later ones", False, (False, True)),
        "fused_order": Fact(
            "what the rows of a matrix of query, key and value are: all queries, all keys, all values; or the three of each head in turn",
            "qkv",
            ("qkv", "per_head"),
            matters=_is_fused,
        ),
        "rotary": Fact(
            "which numbers of a head are turned together by the position: its two halves (Hugging Face), or neighbours (LLaMA's own)",
            "none",
            ("none", "halves", "pairs"),
            matters=_may_turn,
        ),
        "rotary_base": Fact("how slow the slowest of them turns", 10_000.0, parse=_base, matters=lambda _: False),  # said with `rotary`
        "bare_norm": Fact("what a norm without bias is", "rms", ("rms", "layer"), matters=_has_bare_norms),
        "norm_eps": Fact("what hand-written blocks' norms add to the variance", 1e-5, parse=_eps, matters=_is_written),
        "scale_embedding": Fact("whether embeddings are multiplied by the root of their width", False, (False, True), matters=_embeds),
    }

    def judge(self, layers: Layers) -> Match | None:
        attention = sites(layers)
        if not attention:
            return None
        strength, others = share(layers, self.name)
        found = layers.once(blocks)
        evidence = [f"{len(attention)} × attention", *map(str, attention[:4])]
        if found:
            evidence.append(f"{len(found)} × nn.TransformerEncoderLayer, {found[0].width} wide, feed-forward {found[0].feedforward}")
        if decoders := [leaf for leaf in layers.of(Kind.ATTENTION) if leaf.last == "multihead_attn"]:
            evidence.append(f"{len(decoders)} × nn.TransformerDecoderLayer: {listed(decoders)}")
        if stem := patch_stem(layers, attention):
            evidence.append(f"{stem}: a convolution that makes tokens of {attention[0].width}")
        read = {"width": attention[0].width, "attention": len(attention), "encoder_layers": len(found)}
        return Match(self.name, strength, tuple(evidence), tuple(f"also {other}" for other in others), read, layers)

    def invariants(self, match: Match) -> list[Finding]:
        return bounded(_broken(match.layers))

    def build(self, match: Match, declared: Mapping[str, Any], input_shape: tuple[int, ...]) -> nn.Module:
        from fifomark.families import encoder_net

        self.refuse(self.invariants(match))
        seen = plan(match.layers)
        if isinstance(seen, str):
            raise CannotBuild(self.name, seen, f"Use nn.TransformerEncoderLayer, or {FACTORY}")
        return encoder_net.build(self.name, match.layers, seen, declared, input_shape)


def _broken(layers: Layers) -> Iterator[Finding]:
    attention = sites(layers)
    yield from inside_layers(layers, turned=any(site.turned for site in attention))
    for leaf in layers.of(Kind.ATTENTION):
        yield from _attention(leaf, layers.by_path.get(f"{leaf.path}.out_proj" if leaf.path else "out_proj"))
    for site in attention:
        yield from _heads_fit(site)
    found = blocks(layers)
    for block in found:
        width, wide = block.width, block.feedforward
        yield from expect(block.parts["linear1"], "weight", (wide, width), why=f"{width} columns as {block.parts['self_attn']}")
        yield from expect(block.parts["linear2"], "weight", (width, wide), why=f"back from {block.parts['linear1']}")
        for norm in ("norm1", "norm2"):
            yield from expect(block.parts[norm], "weight", (width,), why=f"as wide as {block.parts['self_attn']}")
        if width != found[0].width:
            yield misfit(block.parts["self_attn"].weight, f"expected {found[0].width} columns, as {found[0].parts['self_attn']}")


def _heads_fit(site: Site) -> Iterator[Finding]:
    """Hand-written: several queries may share a key, so rows of queries are a multiple of those of keys; keys and values see one input."""
    if site.fused or len(site.leaves) != 3 or any(leaf.kind not in (Kind.LINEAR, Kind.MATRIX) for leaf in site.leaves):
        return
    query, key, _ = site.leaves
    if query.shape[0] % key.shape[0]:
        yield misfit(key.weight, f"expected as many rows as {query}, or a part of them: one query for each key")


def _attention(leaf: Leaf, out: Leaf | None) -> Iterator[Finding]:
    if len(leaf.shape) != 2:
        yield misfit(leaf.weight, "expected a matrix")
        return
    width = leaf.shape[1] if "in_proj_weight" in leaf.parts else leaf.shape[0]
    yield from expect(leaf, "in_proj_weight", (3 * width, width), why="three times as high as wide")
    yield from expect(leaf, "in_proj_bias", (3 * width,), why=f"one for each row of {leaf}")
    if out is not None:
        yield from expect(out, "weight", (width, width), why=f"as wide as {leaf}")
