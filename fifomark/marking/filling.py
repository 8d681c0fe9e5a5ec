"""Weights put into a model, strictly: names, shapes and kinds of number. torch itself would bend some of them into place."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from fifomark.core.findings import Finding
from fifomark.core.weights import TensorSpec
from fifomark.marking.misfits import Differences, explained

_COMPLEX = {torch.float64: torch.complex128}
_PACKED = (torch.float4_e2m1fn_x2,)  # two numbers a byte: torch can copy them nowhere


def word(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def spec_of(name: str, tensor: Tensor) -> TensorSpec:
    shape = () if is_lazy(tensor) else tuple(tensor.shape)
    return TensorSpec(name=name, dtype=word(tensor.dtype), shape=shape)


def cast(model: nn.Module, dtype: torch.dtype) -> nn.Module:
    """The model with its real numbers in `dtype`. Complex ones stay complex, which Module.to would not keep."""

    def converted(tensor: Tensor) -> Tensor:
        if tensor.is_complex():
            return tensor.to(_COMPLEX.get(dtype, torch.complex64))
        return tensor.to(dtype) if tensor.is_floating_point() else tensor

    model._apply(converted)  # type: ignore[no-untyped-call]
    return model


def fill(model: nn.Module, weights: Mapping[str, Tensor], who: str = "the model") -> list[Finding]:
    """Copy `weights` into `model`. Findings, and an unusable model, where they do not fit; `who` wants what they should be.

    Half, bfloat16 and double become the numbers that the model has. torch would also take whole numbers for real ones, complex ones for
    their real part, and wide whole numbers for narrow ones, without a word; here they are refused.
    """
    places = {name: place for name, place in model.state_dict().items() if isinstance(place, Tensor)}
    misfits = [name for name, tensor in weights.items() if name in places and not _fits(tensor, places[name])]
    left_out = set(misfits)
    keys = model.load_state_dict({name: tensor for name, tensor in weights.items() if name not in left_out}, strict=False)
    return explained(
        Differences(
            [(spec_of(name, weights[name]), spec_of(name, places[name])) for name in misfits],
            [spec_of(name, places[name]) for name in keys.missing_keys if name in places and name not in left_out],
            [spec_of(name, weights[name]) for name in keys.unexpected_keys if name in weights],
        ),
        who,
    )


def compare(outline: nn.Module, weights: Mapping[str, Tensor], who: str) -> list[Finding]:
    """What `fill` would find, of a model on the meta device: without taking memory or copying a number."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says of counters that it fills in itself that they go nowhere
        return fill(outline, {name: tensor.to("meta") for name, tensor in weights.items()}, who)


def _fits(tensor: Tensor, place: Tensor) -> bool:
    if is_lazy(place):
        return tensor.is_floating_point()  # it takes its shape from what it is given
    if tensor.shape != place.shape or tensor.dtype in _PACKED:
        return False
    if place.is_complex() or place.is_floating_point():
        return tensor.is_complex() == place.is_complex() and tensor.is_floating_point() == place.is_floating_point()
    return tensor.dtype == place.dtype or _holds(place.dtype, tensor.dtype)


def _holds(place: torch.dtype, dtype: torch.dtype) -> bool:
    """Whether every whole number of `dtype` is one of `place`."""
    if torch.bool in (place, dtype):
        return False
    if dtype.is_floating_point or dtype.is_complex:
        return False
    wide, narrow = torch.iinfo(place), torch.iinfo(dtype)
    return wide.min <= narrow.min and narrow.max <= wide.max
