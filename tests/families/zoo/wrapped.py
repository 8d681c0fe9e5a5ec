"""Layers that torch wraps: their tensors have other names, the network is what it was."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrizations, prune
from torch.optim.swa_utils import AveragedModel

from zoo.specimen import Group, Shapes, conv, mlp, module

GROUP = Group()


def _cnn() -> nn.Module:
    return nn.Sequential(conv(1, 8), nn.ReLU(), conv(8, 16), nn.ReLU(), nn.Flatten(), nn.Linear(64, 10))


def _rnn() -> nn.Module:
    return module(lstm=nn.LSTM(8, 16), fc=nn.Linear(16, 4))


def _encoder() -> nn.Module:
    return module(embed=nn.Linear(8, 32), encoder=nn.TransformerEncoderLayer(32, 4, 64), fc=nn.Linear(32, 10))


PLAIN: dict[str, Callable[[], nn.Module]] = {
    "logistic": lambda: nn.Linear(64, 10),
    "mlp": lambda: mlp(64, 32, 10),
    "cnn": _cnn,
    "rnn": _rnn,
    "transformer": _encoder,
}


def _each(model: nn.Module, wrap: Callable[..., Any], *kinds: type[nn.Module], **options: Any) -> nn.Module:
    """`wrap` applied to each layer of the kinds."""
    for layer in [layer for layer in model.modules() if isinstance(layer, kinds)]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            wrap(layer, **options)
    return model


def _weighty(wrap: Callable[..., Any], name: str, **options: Any) -> Callable[[], nn.Module]:
    return lambda: _each(PLAIN[name](), wrap, nn.Linear, nn.Conv2d, **options)


def _pruned(name: str) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        model = _each(PLAIN[name](), prune.identity, nn.Linear, nn.Conv2d, name="weight")
        return _each(model, prune.identity, nn.Linear, name="bias")

    return make


def _prefixed(prefix: str, name: str) -> Callable[[], Shapes]:
    return lambda: {prefix + key: tensor for key, tensor in PLAIN[name]().state_dict().items()}


for family in PLAIN:
    GROUP.add(family, **{f"{family}_averaged": lambda family=family: AveragedModel(PLAIN[family]())})
    GROUP.add(family, **{f"{family}_on_many_gpus_and_compiled": _prefixed("_orig_mod.module.", family)})
for family in ("logistic", "mlp", "cnn"):
    GROUP.add(family, **{f"{family}_with_weight_norm": _weighty(torch.nn.utils.weight_norm, family)})
    GROUP.add(family, **{f"{family}_with_new_weight_norm": _weighty(parametrizations.weight_norm, family)})
    GROUP.add(family, **{f"{family}_with_spectral_norm": _weighty(torch.nn.utils.spectral_norm, family)})
    GROUP.add(family, **{f"{family}_with_new_spectral_norm": _weighty(parametrizations.spectral_norm, family)})
    GROUP.add(family, **{f"{family}_pruned": _pruned(family)})
GROUP.add("transformer", transformer_pruned=_pruned("transformer"))
GROUP.add(
    "mlp",
    orthogonal=lambda: _each(mlp(64, 32, 10), parametrizations.orthogonal, nn.Linear),
    spectral_and_weight_norm=lambda: nn.Sequential(
        parametrizations.spectral_norm(nn.Linear(64, 32)), nn.ReLU(), parametrizations.weight_norm(nn.Linear(32, 4))
    ),
)


def _within(wrap: Callable[..., Any], **options: Any) -> Callable[[], nn.Module]:
    """`wrap` applied to the hidden weights of the recurrent layer."""
    return lambda: _each(_rnn(), wrap, nn.LSTM, name="weight_hh_l0", **options)


GROUP.add(
    "rnn",
    lstm_with_weight_norm=_within(torch.nn.utils.weight_norm),
    lstm_with_new_weight_norm=_within(parametrizations.weight_norm),
    lstm_pruned=_within(prune.identity),
)


def _quantised(layers: int) -> Shapes:
    """What is left of torch.ao.quantization.quantize_dynamic once packed weights, which are no tensors, have been left out."""
    return {f"{2 * at}.{name}": () for at in range(layers) for name in ("scale", "zero_point")}


GROUP.add(
    "unknown",
    dynamic_quantised_linear=lambda: _quantised(2),
    dynamic_quantised_lstm=lambda: {"emb.weight": (20, 8), **_quantised(1)},
    dynamic_quantised_one_linear=lambda: _quantised(1),
)
GROUP.add(
    "cnn|unknown",
    static_quantised_cnn=lambda: {"conv.weight": (8, 1, 3, 3), "conv.bias": (8,), "conv.scale": (), "conv.zero_point": (), **_quantised(1)},
)
