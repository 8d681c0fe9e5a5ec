"""A planned Transformer encoder as torch modules. Stock layers are torch's own, and so are their numbers."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod, sqrt
from typing import Any

import torch
from torch import nn

from fifomark.families import nets, written_net
from fifomark.families.encoder import Block, Encoder
from fifomark.families.layers import Kind, Layers, Leaf
from fifomark.families.written import Written

_AS_ASKED = "Build the model as the task asks, and train it again."


def build(family: str, layers: Layers, seen: Encoder, declared: Mapping[str, Any], input_shape: tuple[int, ...]) -> nets.Net:
    """CannotBuild with findings where examples of `input_shape`, or what is declared, do not fit the file."""
    model = nets.Assembly(family, layers)
    anchor = seen.blocks[0].anchor
    if declared["pooling"] == "cls" and seen.cls is None:
        model.refuse(anchor, f"pooling = cls needs a class token of shape (1, 1, {seen.width})", _AS_ASKED)
    tokens = _entrance(model, seen, declared, input_shape)
    _positions(model, seen, tokens)
    for norm in seen.token_norms:
        _norm(model, norm, declared)
        model.suppose(f"{norm} is applied to the tokens, before the encoder layers")
    for block in seen.blocks:
        if isinstance(block, Written):
            written_net.run(model, block, declared)
        else:
            model.then(_layer(model, block, declared))
    _say(model, seen, declared)
    for norm in seen.norms:
        _norm(model, norm, declared)
        model.suppose(f"{norm} is applied after the encoder layers, before pooling")
    model.then(_POOLINGS[declared["pooling"]])
    for norm in seen.head_norms:
        _norm(model, norm, declared)
        model.suppose(f"{norm} is applied after pooling")
    model.chain(seen.head, declared["head_activation"])
    return model.net()


def _norm(model: nets.Assembly, leaf: Leaf, declared: Mapping[str, Any]) -> None:
    if leaf.kind is Kind.SCALE:
        model.then(model.hold(leaf.path, nets.bare_norm(model.family, leaf, declared["bare_norm"], declared["norm_eps"])))
    else:
        model.run(leaf)


def _say(model: nets.Assembly, seen: Encoder, declared: Mapping[str, Any]) -> None:
    """What hand-written blocks do that no file tells."""
    for block in seen.blocks[:1]:
        if isinstance(block, Written):
            first, second = block.norms
            model.suppose(f"{first} goes with the attention, {second} with the feed-forward part, in every block")
            model.suppose("dot products are divided by the root of the width of a head")
            if block.gate:
                model.suppose(f"the activation is that of the gate, {block.gate}; it multiplies {block.widen}")
            if declared["rotary"] != "none":
                model.suppose(f"queries and keys are turned by their positions, {declared['rotary']}, base {declared['rotary_base']:g}")
            if block.masks and not declared["causal"]:
                model.suppose(f"no step looks at later ones: the file holds a mask, {block.masks[0]}")


def _layer(model: nets.Assembly, block: Block, declared: Mapping[str, Any]) -> nets.Step:
    if block.width % declared["nhead"]:
        model.refuse(block.anchor, f"{block.width} is no multiple of nhead = {declared['nhead']}", _AS_ASKED)

    def make() -> nn.Module:
        return nn.TransformerEncoderLayer(
            block.width,
            declared["nhead"],
            block.feedforward,
            dropout=0.0,
            activation=nets.FUNCTIONS.get(declared["activation"], declared["activation"]),
            norm_first=declared["norm_first"],
            batch_first=True,
            bias=block.bias,
        )

    layer = model.hold(block.path, nets.outlined(model.family, make, block.tensors()))
    return _Causal(layer) if declared["causal"] else layer


class _Causal:
    """An encoder layer in which no step looks at later ones."""

    def __init__(self, layer: nn.Module) -> None:
        self.layer = layer

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        later = nn.Transformer.generate_square_subsequent_mask(x.shape[1], device=x.device, dtype=x.dtype)
        out: torch.Tensor = self.layer(x, src_mask=later, is_causal=True)
        return out


def _entrance(model: nets.Assembly, seen: Encoder, declared: Mapping[str, Any], shape: tuple[int, ...]) -> int:
    """Steps from an example to tokens; returns how many tokens there are."""
    stem = seen.stem
    if stem and seen.embeds:
        if len(shape) != 1:
            model.refuse(stem, f"an embedding takes token ids (N, T), one example has shape {shape}", nets.CHECK_INPUT)
        model.then(model.hold(stem.path, nets.embedding(model.family, stem)))
        if declared["scale_embedding"]:
            model.then(_Times(sqrt(seen.width)))
        return shape[0]
    if stem and stem.kind is Kind.CONV:
        return _patches(model, stem, shape)
    return _features(model, seen, shape)


def _features(model: nets.Assembly, seen: Encoder, shape: tuple[int, ...]) -> int:
    """(N, T, F), through a linear layer where there is one; images of one channel are read as rows."""
    wants = seen.stem.shape[1] if seen.stem else seen.width
    if len(shape) == 3 and shape[0] == 1:
        shape = shape[1:]
        model.then(nets.drop_channel)
        model.suppose(f"the one channel of an example is dropped: {shape[0]} tokens of {shape[1]}")
    if len(shape) == 1 and wants == 1:
        shape = (shape[0], 1)
        model.then(nets.one_feature)
        model.suppose(f"each of the {shape[0]} numbers of an example is one token")
    if len(shape) != 2 or shape[1] != wants:
        anchor = seen.stem or seen.blocks[0].anchor
        model.refuse(anchor, f"takes tokens of {wants} features, one example has shape {shape}", nets.CHECK_INPUT)
    if seen.stem:
        model.run(seen.stem)
    return shape[0]


def _patches(model: nets.Assembly, stem: Leaf, shape: tuple[int, ...]) -> int:
    kernel = stem.shape[2:]
    if len(shape) == len(kernel) and stem.shape[1] == 1:
        shape = (1, *shape)
        model.then(nets.one_channel)
        model.suppose(f"examples are given a channel axis: {stem} takes one channel")
    if len(shape) != len(kernel) + 1 or shape[0] != stem.shape[1] or any(s < k for s, k in zip(shape[1:], kernel, strict=True)):
        model.refuse(stem, f"cannot be applied to examples of shape {shape}", nets.CHECK_INPUT)
    model.run(stem, stride=kernel)
    model.then(_channels_last)
    model.suppose(f"{stem} cuts an example into patches that do not overlap: its stride is its kernel")
    return prod(size // side for size, side in zip(shape[1:], kernel, strict=True))


def _positions(model: nets.Assembly, seen: Encoder, tokens: int) -> None:
    """Positions are added and the class token put in front, in the order that the number of positions allows."""
    leaf, token_first = seen.positions, False
    if leaf:
        rows = prod(leaf.shape[:-1])
        token_first = rows > tokens
        if rows < tokens:
            model.refuse(leaf, f"holds {rows} positions, one example has {tokens} tokens", nets.CHECK_INPUT)
    front: list[nets.Step] = [_Front(model.hold(seen.cls.path, nets.weight(seen.cls.weight)))] if seen.cls else []
    added: list[nets.Step] = [_Add(_table(model, leaf))] if leaf else []
    for step in (*front, *added) if token_first else (*added, *front):
        model.then(step)
    if leaf is None:
        model.suppose("no positions are added: the file holds none")
    elif seen.cls:
        model.suppose(f"{leaf} is added {'after' if token_first else 'before'} the class token is put in front")


def _table(model: nets.Assembly, leaf: Leaf) -> nn.Module | nn.Parameter:
    if leaf.kind is Kind.MATRIX:
        return model.hold(leaf.path, nets.embedding(model.family, leaf))
    return model.hold(leaf.path, nets.weight(leaf.weight))


class _Times:
    def __init__(self, factor: float) -> None:
        self.factor = factor

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.factor


class _Front:
    """The class token before all others."""

    def __init__(self, token: nn.Parameter) -> None:
        self.token = token

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat((self.token.expand(len(x), 1, -1), x), dim=1)


class _Add:
    """Learned positions, as many as there are tokens."""

    def __init__(self, positions: nn.Module | nn.Parameter) -> None:
        self.positions = positions  # the module and not its weight: that is replaced when the model gets its memory

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        table: Any = self.positions.weight if isinstance(self.positions, nn.Module) else self.positions
        rows: torch.Tensor = table.reshape(-1, x.shape[-1])[: x.shape[1]]
        return x + rows


def _channels_last(x: torch.Tensor) -> torch.Tensor:
    return x.flatten(2).transpose(1, 2)


_POOLINGS: Mapping[str, nets.Step] = {
    "none": lambda x: x,
    "mean": lambda x: x.mean(1),
    "max": lambda x: x.max(1).values,
    "cls": lambda x: x[:, 0],
    "first": lambda x: x[:, 0],
    "last": lambda x: x[:, -1],
}
