"""The names that torch gives the tensors of one layer, also behind weight norm, spectral norm and pruning.

weight_norm           weight_g, weight_v                     parametrizations.weight.original0, .original1
spectral_norm         weight_orig, weight_u, weight_v        parametrizations.weight.original, .0._u, .0._v
prune                 weight_orig, weight_mask
fastai's WeightDrop   weight_hh_l0_raw
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from fifomark.core.weights import TensorSpec

_RECURRENT = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")
_CELL = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
_ATTENTION = ("in_proj_weight", "in_proj_bias", "q_proj_weight", "k_proj_weight", "v_proj_weight", "bias_k", "bias_v")
_NORM = ("running_mean", "running_var", "num_batches_tracked")
_QUANTISED = ("scale", "zero_point")
_LEVEL = tuple(f"{what}_l{level}" for what in ("weight_ih", "weight_hh", "bias_ih", "bias_hh") for level in range(4))
LOCALS: Final = frozenset(("weight", "bias", *_CELL, *_ATTENTION, *_NORM, *_QUANTISED, *_LEVEL))  # the usual ones, found at once
_ENDS = ("_orig", "_mask", "_g", "_v", "_u", "_raw")
_MARK = "parametrizations."


def recurrent_slot(local: str) -> tuple[str, int, bool] | None:
    """ "weight_ih_l1_reverse" → ("weight_ih", 1, True); None for what nn.RNN, nn.GRU and nn.LSTM would not call a tensor."""
    body, back = (local[: -len("_reverse")], True) if local.endswith("_reverse") else (local, False)
    what, _, level = body.rpartition("_l")
    if what not in _RECURRENT or len(level) > 4 or not (level.isascii() and level.isdigit()) or str(int(level)) != level:
        return None
    return what, int(level), back


def split(name: str) -> tuple[str, str]:
    """The path of the layer and the local name: "conv.parametrizations.weight.original1" → ("conv", "weight.original1")."""
    if _MARK in name:
        head, _, tail = name.rpartition(_MARK)  # torch.nn.utils.parametrize
        if (not head or head.endswith(".")) and len(tail) <= 64 and bare(tail):
            return head[:-1], tail
    path, _, local = name.rpartition(".")
    return path, local


@lru_cache(maxsize=4096)
def bare(local: str) -> str | None:
    """The plain name: "weight_orig" and "weight.original1" → "weight"; None for what is no tensor of a layer of torch."""
    if local in LOCALS or recurrent_slot(local):
        return local
    body, dot, _ = local.partition(".")
    if not dot:
        body = next((local[: -len(end)] for end in _ENDS if local.endswith(end)), "")
    return body if body in LOCALS or recurrent_slot(body) else None


def unwrapped(tensors: Mapping[str, TensorSpec]) -> Mapping[str, TensorSpec]:
    """The tensors that have the shapes of the plain ones, by their plain names."""
    parts: dict[str, TensorSpec] = {}
    for local, spec in tensors.items():
        plain = bare(local) or local
        if local == plain or local == _source(plain, tensors):
            parts[plain] = spec
    return tensors if parts.keys() == tensors.keys() else parts


def _source(plain: str, tensors: Mapping[str, TensorSpec]) -> str | None:
    """Which tensor has the shape of the plain one. "weight_v" does beside "weight_g"; beside "weight_orig" it is a vector."""
    names = (f"{plain}_orig", f"{plain}_raw", f"{plain}.original1", f"{plain}.original")
    found = next((name for name in names if name in tensors), None)
    return found or (f"{plain}_v" if f"{plain}_g" in tensors else None)


def wrapping(tensors: Mapping[str, TensorSpec]) -> str:
    """What computes a tensor of the layer from others, in words."""
    if any(local.endswith(("_g", ".original0")) for local in tensors):
        return "weight norm"
    if any(local.endswith(("_u", "._u")) for local in tensors):
        return "spectral norm"
    if any(local.endswith("_mask") for local in tensors):
        return "pruning mask"
    return "computed weight"
