"""Layers whose weight is computed at each call from what the file holds: weight norm, spectral norm, pruning; as torch computes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from fifomark.core.weights import TensorSpec
from fifomark.families.layers import Leaf

Recipe = Callable[[Mapping[str, Tensor]], Tensor]
_UNTRAINED = ("_mask", "_u", "._u", "._v")  # weight norm's own weight_v is trained


class Computed(nn.Module):
    """A stock layer without numbers of its own; the tensors of the file under their names, and how its numbers come from them."""

    def __init__(self, layer: nn.Module, leaf: Leaf, recipes: Mapping[str, Recipe]) -> None:
        super().__init__()
        self._stock = (layer.eval(),)  # in a tuple: no part of the state dict
        self._recipes = dict(recipes)
        self._names = {local: spec.name[len(leaf.path) + 1 if leaf.path else 0 :] for local, spec in leaf.tensors.items()}
        for local, spec in leaf.tensors.items():
            plant(self, self._names[local], _tensor(local, spec, leaf.tensors))

    def forward(self, *inputs: Any) -> Any:
        held = self.state_dict(keep_vars=True)
        tensors = {local: held[name] for local, name in self._names.items()}
        return functional_call(self._stock[0], {plain: recipe(tensors) for plain, recipe in self._recipes.items()}, inputs)


def recipes(leaf: Leaf) -> Mapping[str, Recipe] | None:
    """How each plain tensor is computed; None where that is not known or the shapes do not allow it."""
    found = {plain: _recipe(plain, leaf.tensors) for plain in leaf.parts}
    used = {local for recipe in found.values() if recipe for local in recipe[1]}
    if used != set(leaf.tensors):
        return None
    return {plain: recipe[0] for plain, recipe in found.items() if recipe}


def _recipe(plain: str, tensors: Mapping[str, TensorSpec]) -> tuple[Recipe, tuple[str, ...]] | None:
    """The recipe and the tensors that it takes."""
    if plain in tensors:
        return (lambda t: t[plain]), (plain,)
    orig, mask = f"{plain}_orig", f"{plain}_mask"
    if orig in tensors and mask in tensors and tensors[mask].shape == tensors[orig].shape:
        return (lambda t: t[orig] * t[mask]), (orig, mask)
    for g, v in ((f"{plain}_g", f"{plain}_v"), (f"{plain}.original0", f"{plain}.original1")):
        if g in tensors and v in tensors and (axes := _norm_axes(tensors[g].shape, tensors[v].shape)) is not None:
            return _weight_norm(g, v, axes), (g, v)
    for w, u, v in ((orig, f"{plain}_u", f"{plain}_v"), (f"{plain}.original", f"{plain}.0._u", f"{plain}.0._v")):
        if w in tensors and u in tensors and v in tensors and (axis := _rows(tensors[w], tensors[u], tensors[v])) is not None:
            return _spectral_norm(w, u, v, axis), (w, u, v)
    return None


def _norm_axes(g: tuple[int, ...], v: tuple[int, ...]) -> tuple[int, ...] | None:
    """The axes over which torch takes the norm: those along which there is one number for all."""
    if not g:
        return tuple(range(len(v)))
    if len(g) != len(v) or any(a not in (1, b) for a, b in zip(g, v, strict=True)) or sum(side != 1 for side in g) > 1:
        return None
    return tuple(axis for axis, side in enumerate(g) if side == 1 or len(v) == 1)


def _weight_norm(g: str, v: str, axes: tuple[int, ...]) -> Recipe:
    def recipe(tensors: Mapping[str, Tensor]) -> Tensor:
        norm: Tensor = torch.linalg.vector_norm(tensors[v], dim=axes, keepdim=bool(tensors[g].dim()))
        return tensors[v] * (tensors[g] / norm)

    return recipe


def _rows(weight: TensorSpec, u: TensorSpec, v: TensorSpec) -> int | None:
    """The axis that `u` goes along: 0, or 1 for transposed convolutions; `v` goes along all the others."""
    for axis in (0, 1):
        side = weight.shape[axis] if len(weight.shape) > axis else 0
        if side and u.shape == (side,) and v.shape == (weight.numel // side,):
            return axis
    return None


def _spectral_norm(w: str, u: str, v: str, axis: int) -> Recipe:
    def recipe(tensors: Mapping[str, Tensor]) -> Tensor:
        matrix = tensors[w].movedim(axis, 0).flatten(1)
        sigma: Tensor = torch.dot(tensors[u], torch.mv(matrix, tensors[v]))
        return tensors[w] / sigma

    return recipe


def _tensor(local: str, spec: TensorSpec, beside: Mapping[str, TensorSpec]) -> Tensor:
    """Zeros, a parameter where training changed it."""
    zeros = torch.zeros(spec.shape, device="meta")
    vector = local.endswith("_v") and local[:-2] + "_orig" in beside
    return zeros if vector or local.endswith(_UNTRAINED) else nn.Parameter(zeros)


def plant(root: nn.Module, path: str, thing: nn.Module | Tensor) -> bool:
    """`thing` as a part of `root` under a dotted path; False where a layer stands there already.

    Straight into torch's tables: a submitted name may be "forward", "_modules" or "", which add_module and setattr trip over.
    """
    *above, last = path.split(".")
    spot = root
    for name in above:
        spot = spot._modules.setdefault(name, nn.Module())  # type: ignore[assignment]  # never None here
    if isinstance(thing, nn.Parameter):
        spot._parameters[last] = thing
    elif isinstance(thing, Tensor):
        spot._buffers[last] = thing
    elif last in spot._modules:  # as TransformerEncoderLayer's own `dropout`
        return False
    else:
        spot._modules[last] = thing
    return True
