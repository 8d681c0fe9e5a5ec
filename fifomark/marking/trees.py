"""Models rebuilt from the description of a pickled module: torch's own layers, in a Sequential, each by its constructor.

Nothing that the pickle names is imported: a class name is looked up in a table (families.stock), and so is each attribute. The tree is
first made on torch's meta device, where it costs no memory, and compared with the weights.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from fifomark.core.findings import Finding
from fifomark.core.layers import Layer, Value
from fifomark.core.text import shown
from fifomark.families.nets import materialise
from fifomark.families.stock import (
    ACTIVATIONS,
    ATTENTION,
    COMPOSED,
    ENCODER,
    ENCODER_LAYER,
    LEAVES,
    MODULE_LIST,
    PROJECTIONS,
    SEQUENTIAL,
    UNFIT,
    Rule,
)
from fifomark.marking.filling import cast, compare, fill

Made = TypeVar("Made", bound=nn.Module)
_OWN = "the description of its layers"
_ADVICE = "Put torch.nn's own layers into an nn.Sequential, and save that; or ask whoever runs the marking what else is taken."
_PLAIN = "Remove hooks, weight norm, spectral norm and pruning before you save (torch.nn.utils.remove_weight_norm, prune.remove)."
_AGAIN = "Save the model as you trained it, and do not change the attributes of its layers."


class CannotRebuild(Exception):
    """Why, with the layer's path."""

    def __init__(self, path: str, why: str, advice: str = _ADVICE) -> None:
        super().__init__(why)
        self.path, self.advice = path, advice


def plant(layers: Sequence[Layer], weights: Mapping[str, Tensor], dtype: torch.dtype) -> nn.Module | list[Finding]:
    """The model that `layers` describe with `weights` in it, in eval mode, its real numbers in `dtype`; or why the weights do not fit.

    CannotRebuild where the layers tell too little.
    """
    if not layers:
        raise CannotRebuild("", "its layers are too many, or not described as one tree")
    tree = _Tree(layers, weights.keys())
    with torch.device("meta"):
        model = tree.made("")
    if findings := compare(model, weights, _OWN):
        return findings
    materialise(cast(model, dtype))
    return fill(model, weights, _OWN) or model.eval()


class _Tree:
    """Layers by their paths. `names` are those of the weights."""

    def __init__(self, layers: Sequence[Layer], names: Collection[str]) -> None:
        self._names = names
        self._layers = {layer.path: layer for layer in layers}
        self._children: dict[str, list[str]] = {}
        if len(self._layers) < len(layers):
            raise CannotRebuild("", "two of its layers have one name")
        for path in self._layers:
            if path:
                self._children.setdefault(path.rpartition(".")[0], []).append(path)
        for path, layer in self._layers.items():
            if layer.altered:
                raise CannotRebuild(path, f"{_said(layer)} has hooks, or another function in the place of its own", _PLAIN)
            if layer.cls not in LEAVES and layer.cls not in COMPOSED and layer.cls not in PROJECTIONS and layer.cls not in UNFIT:
                raise CannotRebuild(path, f"{_said(layer)} is none of the layers that are known here, and code of its own is never run")

    def made(self, path: str) -> nn.Module:
        """The module at `path`, with all that is below it."""
        layer = self._at(path)
        if layer.cls == SEQUENTIAL:
            return self._sequential(path)
        if layer.cls == ENCODER:
            return self._encoder(layer)
        if layer.cls == ENCODER_LAYER:
            return self._encoder_layer(layer)
        if layer.cls not in LEAVES:
            raise CannotRebuild(path, f"{_said(layer)} cannot stand alone or in a Sequential: {UNFIT.get(layer.cls, 'it is no layer')}")
        if self._children.get(path):
            raise CannotRebuild(path, f"{_said(layer)} has layers in it, as torch's own has not")
        arguments = _arguments(layer, LEAVES[layer.cls])
        if LEAVES[layer.cls].bias:
            arguments["bias"] = _below(path, "bias") in self._names
        make: type[nn.Module] = getattr(nn, layer.cls.rpartition(".")[2])
        return _constructed(layer, make, arguments)

    def _at(self, path: str) -> Layer:
        if path not in self._layers:
            raise CannotRebuild(path, f"there is no layer called {shown(path, 80)!r}")
        return self._layers[path]

    def _sequential(self, path: str) -> nn.Module:
        parts = [(child.rpartition(".")[2], self.made(child)) for child in self._children.get(path, [])]
        try:
            return nn.Sequential(OrderedDict(parts))
        except KeyError as e:  # torch takes no layer called "forward"
            raise CannotRebuild(path, f"no Sequential has such a layer: {shown(str(e), 100)}") from e

    def _encoder(self, layer: Layer) -> nn.Module:
        parts = self._children.get(_below(layer.path, "layers"), [])
        norm = self._children_named(layer.path, "layers", "norm")
        if self._at(_below(layer.path, "layers")).cls != MODULE_LIST or not parts:
            raise CannotRebuild(layer.path, f"{_said(layer)} has no layers")
        blocks = []
        for part in parts:
            if self._at(part).cls != ENCODER_LAYER:
                raise CannotRebuild(part, f"{_said(self._at(part))} is no layer of an encoder")
            blocks.append(self._encoder_layer(self._at(part)))
        options = _arguments(layer, COMPOSED[ENCODER])
        options |= {"enable_nested_tensor": False}  # a faster way to the same numbers, for padded batches: there are none
        made = _constructed(layer, nn.TransformerEncoder, {"encoder_layer": blocks[0], "num_layers": 1, **options})
        made.layers = nn.ModuleList(blocks)
        made.num_layers = len(blocks)
        if norm is not None:
            made.norm = self.made(norm)
        return made

    def _children_named(self, path: str, *allowed: str) -> str | None:
        """The path of the last of `allowed`, where it is there; no child may have another name."""
        children = self._children.get(path, [])
        names = [child.rpartition(".")[2] for child in children]
        if strange := set(names) - set(allowed):
            raise CannotRebuild(path, f"it has a part called {shown(min(strange), 80)!r}, as torch's own has not")
        return children[names.index(allowed[-1])] if allowed[-1] in names else None

    def _encoder_layer(self, layer: Layer) -> nn.Module:
        path = layer.path
        self._children_named(path, "self_attn", "linear1", "dropout", "linear2", "norm1", "norm2", "dropout1", "dropout2", "activation")
        attention, norm = self._at(_below(path, "self_attn")), self._at(_below(path, "norm1"))
        facts = _arguments(attention, COMPOSED[ATTENTION])
        activation: Any = ACTIVATIONS["torch.nn.functional.relu"]  # what torch takes where a file from before 1.2 does not say
        if _below(path, "activation") in self._layers:
            activation = self.made(_below(path, "activation"))
        elif "activation" in layer.attributes:
            activation = ACTIVATIONS[str(_arguments(layer, COMPOSED[ENCODER_LAYER])["activation"])]
        wide = _arguments(self._at(_below(path, "linear1")), LEAVES["torch.nn.modules.linear.Linear"])
        made = _constructed(
            layer,
            nn.TransformerEncoderLayer,
            {
                "d_model": facts.get("embed_dim"),
                "nhead": facts.get("num_heads"),
                "dim_feedforward": wide.get("out_features"),
                "activation": activation,
                "layer_norm_eps": norm.attributes.get("eps", 1e-5),
                "batch_first": facts.get("batch_first", False),
                "norm_first": layer.attributes.get("norm_first", False),
                "bias": _below(path, "linear1.bias") in self._names,
            },
        )
        self._compared(layer, made)
        return made

    def _compared(self, whole: Layer, made: nn.Module) -> None:
        """CannotRebuild where a part of a layer is not as its constructor makes it: somebody changed it afterwards."""
        before = f"{whole.path}." if whole.path else ""
        described = [self._layers[path] for path in self._layers if path.startswith(before) and path != whole.path]
        parts = dict(made.named_modules())
        for layer in described:
            part = parts.get(layer.path[len(before) :])
            ours = f"{type(part).__module__}.{type(part).__qualname__}"
            if part is None or not (ours == layer.cls or {ours, layer.cls} <= set(PROJECTIONS)):
                raise CannotRebuild(layer.path, f"{_said(layer)} is not the layer that torch puts there", _AGAIN)
            for name, value in layer.attributes.items():
                if name != "p" and hasattr(part, name) and _plain(getattr(part, name)) != value:
                    why = f"{_said(layer)} has {name} = {shown(str(value), 60)}, where torch's own has {_plain(getattr(part, name))}"
                    raise CannotRebuild(layer.path, why, _AGAIN)


def _arguments(layer: Layer, rule: Rule) -> dict[str, Any]:
    """What the constructor is to be told, each value checked. What a file leaves out, as old ones do, takes torch's default."""
    for name, value in rule.fixed.items():
        if name in layer.attributes and layer.attributes[name] != value:
            raise CannotRebuild(
                layer.path, f"{_said(layer)} has {name} = {shown(str(layer.attributes[name]), 60)}, expected {value}", _AGAIN
            )
    taken = {name: layer.attributes[name] for name in rule.takes if name in layer.attributes}
    for name, value in taken.items():
        if not rule.takes[name](value):
            raise CannotRebuild(layer.path, f"{_said(layer)} has {name} = {shown(str(value), 60)}, which is not taken", _AGAIN)
    return {name: tuple(value) if isinstance(value, list) else value for name, value in taken.items()}


def _constructed(layer: Layer, make: Callable[..., Made], arguments: Mapping[str, Any]) -> Made:
    try:
        return make(**arguments)
    except (TypeError, ValueError, RuntimeError, AssertionError, NotImplementedError) as e:
        first = shown((str(e).splitlines() or [""])[0], 200)
        raise CannotRebuild(layer.path, f"torch makes no {_said(layer)} from what the file says: {first}", _AGAIN) from e


def _below(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _plain(value: object) -> Value:
    return list(value) if isinstance(value, tuple) else value  # type: ignore[return-value]


def _said(layer: Layer) -> str:
    """`layer 3 (torch.nn.LSTM)`"""
    cls = layer.cls
    if cls.startswith("torch.nn.modules."):
        cls = f"torch.nn.{cls.rpartition('.')[2]}"
    return f"layer {shown(layer.path, 80)} ({shown(cls, 120)})" if layer.path else f"the model ({shown(cls, 120)})"
