"""A planned recurrent network as torch modules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from fifomark.families import by_hand_net, nets
from fifomark.families.by_hand import ByHand
from fifomark.families.layers import Layers
from fifomark.families.recurrence import Recurrence

if TYPE_CHECKING:
    from fifomark.families.rnn import Plan

_LAYERS: Mapping[str, Any] = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}
_CELLS: Mapping[str, Any] = {"rnn": nn.RNNCell, "gru": nn.GRUCell, "lstm": nn.LSTMCell}


def build(family: str, layers: Layers, plan: Plan, declared: Mapping[str, Any], input_shape: tuple[int, ...]) -> nets.Net:
    """CannotBuild with findings where examples of `input_shape`, or the linear layers, do not fit the recurrent ones."""
    model = nets.Assembly(family, layers)
    _entrance(model, plan, input_shape)
    for seen in plan.stack:
        if isinstance(seen, ByHand):
            model.then(by_hand_net.step(model, seen, declared))
            continue
        module = model.hold(seen.leaf.path, _recurrent(family, seen, declared))
        pooling = declared["pooling"] if seen is plan.stack[-1] else None
        if seen.single:
            model.suppose(f"{seen.leaf} is a cell that runs over all steps from a state of zeros")
            model.then(_Unrolled(module, pooling, declared["batch_first"]))
        else:
            model.then(_Layer(module, seen.directions, pooling))
    if plan.norm:
        model.run(plan.norm)
        model.suppose(f"{plan.norm} is applied to what goes on from {plan.stack[-1].leaf}")
    if plan.head and plan.head[0].shape[1] != plan.stack[-1].output_size:
        message = f"expected {plan.stack[-1].output_size} columns, what {plan.stack[-1].leaf} gives at each step"
        model.refuse(plan.head[0], message, "Feed the linear layer what the recurrent one gives at one step, and train it again.")
    model.chain(plan.head, declared["activation"])
    return model.net()


def _entrance(model: nets.Assembly, plan: Plan, shape: tuple[int, ...]) -> None:
    first, wants = plan.stack[0], plan.stack[0].input_size
    if plan.embedding:
        if len(shape) != 1:
            model.refuse(plan.embedding, f"an embedding takes token ids (N, T), one example has shape {shape}", nets.CHECK_INPUT)
        model.then(model.hold(plan.embedding.path, nets.embedding(model.family, plan.embedding)))
    elif len(shape) == 3 and shape[0] == 1 and shape[2] == wants:
        model.then(nets.drop_channel)
        model.suppose(f"the one channel of an example is dropped: {shape[1]} steps of {wants}")
    elif len(shape) == 1 and wants == 1:
        model.then(nets.one_feature)
        model.suppose(f"each of the {shape[0]} numbers of an example is one step")
    elif len(shape) != 2 or shape[1] != wants:
        model.refuse(first.leaf, f"takes steps of {wants} features, one example has shape {shape}", nets.CHECK_INPUT)


def _recurrent(family: str, seen: Recurrence, declared: Mapping[str, Any]) -> nn.Module:
    make = (_CELLS if seen.single else _LAYERS)[seen.cell]
    options: dict[str, Any] = {"bias": seen.bias}
    if seen.cell == "rnn":
        options["nonlinearity"] = declared["nonlinearity"]
    if seen.projection:
        options["proj_size"] = seen.projection
    if not seen.single:
        options |= {"num_layers": seen.levels, "bidirectional": seen.directions == 2, "batch_first": declared["batch_first"]}
    return nets.fitted(family, seen.leaf, lambda: make(seen.input_size, seen.hidden_size, **options))


class _Layer:
    """A recurrent layer and what goes on from it: all steps where `pooling` is None."""

    def __init__(self, module: nn.Module, directions: int, pooling: str | None) -> None:
        self.module, self.directions, self.pooling = module, directions, pooling

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        outputs, state = self.module(x)
        if self.pooling == "final_hidden":
            hidden: torch.Tensor = state[0] if isinstance(state, tuple) else state
            return torch.cat(tuple(hidden[-self.directions :]), dim=1)
        return pooled(outputs, self.pooling)


class _Unrolled:
    """A cell, run over all steps from a state of zeros."""

    def __init__(self, module: nn.Module, pooling: str | None, batch_first: bool) -> None:
        self.module, self.pooling, self.time = module, pooling, 1 if batch_first else 0

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        state: Any = None
        outputs: list[torch.Tensor] = []
        for step in x.unbind(self.time):
            state = self.module(step, state)
            outputs.append(state[0] if isinstance(state, tuple) else state)
        if self.pooling == "final_hidden":
            return outputs[-1]
        return pooled(torch.stack(outputs, self.time), self.pooling)


def pooled(outputs: torch.Tensor, pooling: str | None) -> torch.Tensor:
    """`outputs` are (N, T, H)."""
    if pooling in ("last", "final_hidden"):  # the latter of one direction
        return outputs[:, -1]
    if pooling == "mean":
        return outputs.mean(1)
    return outputs.max(1).values if pooling == "max" else outputs
