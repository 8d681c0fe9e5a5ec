"""From a trained model's tensors back to a model, by names and shapes alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from fifomark.core.weights import TensorSpec
from fifomark.families import registry
from fifomark.families.family import settle

DIGITS = (5, 8, 8)  # five examples, eight rows of eight


def specs(state: Mapping[str, torch.Tensor]) -> list[TensorSpec]:
    return [
        TensorSpec(name=name, dtype=str(tensor.dtype).removeprefix("torch."), shape=tuple(tensor.shape)) for name, tensor in state.items()
    ]


def rebuilt(state: Mapping[str, torch.Tensor], shape: tuple[int, ...], declared: Mapping[str, Any] | None = None) -> nn.Module:
    found = registry.match(specs(state))
    assert found, registry.recognise(specs(state))
    family = registry.family(found.family)
    values, _ = settle(family, declared or {}, "rubric.toml", found)
    assert family.invariants(found) == []
    model = family.build(found, values, shape)
    model.load_state_dict(dict(state), strict=True)
    assert [(name, tensor.shape) for name, tensor in sorted(model.state_dict().items())] == [(n, t.shape) for n, t in sorted(state.items())]
    return model


def same(original: nn.Module, x: torch.Tensor, declared: Mapping[str, Any] | None = None) -> nn.Module:
    """The rebuilt model, after its outputs were found equal to the original's on `x`."""
    original.eval()
    for name, buffer in original.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_()
        if name.endswith("running_var"):
            buffer.uniform_(0.5, 2.0)
    model = rebuilt(original.state_dict(), tuple(x.shape[1:]), declared)
    assert not model.training
    with torch.no_grad():
        torch.testing.assert_close(model(x), original(x), rtol=0, atol=1e-6)
    return model
