"""Layers behind weight norm, spectral norm and pruning are built as they are, and give what torch gives."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from rebuilding import DIGITS, rebuilt, same
from torch import nn
from torch.nn.utils import parametrizations, prune
from torch.nn.utils import spectral_norm as old_spectral_norm
from torch.nn.utils import weight_norm as old_weight_norm
from torch.optim.swa_utils import AveragedModel

from fifomark.core.errors import CannotBuild

pytestmark = pytest.mark.filterwarnings("ignore:`?torch.nn.utils.weight_norm")


def pruned(layer: nn.Module) -> None:
    prune.random_unstructured(layer, "weight", amount=0.4)
    prune.random_unstructured(layer, "bias", amount=0.2)


WRAPS: dict[str, Callable[[nn.Module], Any]] = {
    "weight norm": parametrizations.weight_norm,
    "weight norm before torch 2.0": old_weight_norm,
    "weight norm along the inputs": lambda layer: parametrizations.weight_norm(layer, dim=1),
    "weight norm over everything": lambda layer: old_weight_norm(layer, dim=None),
    "spectral norm": parametrizations.spectral_norm,
    "spectral norm before torch 1.9": old_spectral_norm,
    "pruned": pruned,
}


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(7)


def wrapped(model: nn.Module, wrap: Callable[[nn.Module], Any], *kinds: type[nn.Module]) -> nn.Module:
    for layer in [layer for layer in model.modules() if isinstance(layer, kinds)]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            wrap(layer)
    with torch.no_grad():
        for parameter in model.parameters():  # as after training: otherwise weight norm changes nothing
            parameter.mul_(torch.empty_like(parameter).uniform_(0.5, 2.0))
    return model


@pytest.mark.parametrize("wrap", WRAPS)
def test_a_perceptron(wrap: str) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 4))
    built = same(wrapped(model, WRAPS[wrap], nn.Linear), torch.randn(*DIGITS))
    x = torch.randn(*DIGITS)
    with torch.no_grad():
        assert torch.equal(copy.deepcopy(built)(x), built(x))


@pytest.mark.parametrize("wrap", WRAPS)
def test_a_convolutional_network(wrap: str) -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.ConvTranspose2d(4, 6, 3), nn.Flatten(), nn.Linear(384, 3))
    layers = [{"conv2d": 3}, "relu", {"convtranspose2d": 3}, "flatten", "linear"]
    same(wrapped(model, WRAPS[wrap], nn.Conv2d, nn.ConvTranspose2d, nn.Linear), torch.randn(3, 1, 8, 8), {"layers": layers})


@pytest.mark.parametrize(
    "wrap",
    [lambda lstm: parametrizations.weight_norm(lstm, "weight_hh_l0"), lambda lstm: prune.random_unstructured(lstm, "weight_ih_l0", 0.3)],
)
def test_a_recurrent_layer(wrap: Callable[[nn.Module], Any]) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm, self.fc = nn.LSTM(8, 6, batch_first=True), nn.Linear(6, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(self.lstm(x)[0][:, -1])

    same(wrapped(Net(), wrap, nn.LSTM), torch.randn(*DIGITS))


def test_only_what_was_trained_is_a_parameter() -> None:
    model = nn.Sequential(nn.Flatten(), parametrizations.spectral_norm(nn.Linear(64, 16)), nn.ReLU(), nn.Linear(16, 4))
    pruned(model[3])
    built = rebuilt(model.state_dict(), (8, 8))
    assert {name for name, _ in built.named_parameters()} == {name for name, _ in model.named_parameters()}
    assert {name for name, _ in built.named_buffers()} == {name for name, _ in model.named_buffers()}


def test_an_averaged_model_keeps_its_counter() -> None:
    model = AveragedModel(nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 4)))
    same(model, torch.randn(*DIGITS))


def test_vectors_that_do_not_fit_their_matrix_are_refused_in_words() -> None:
    state = dict(parametrizations.spectral_norm(nn.Linear(64, 10)).state_dict())
    name = next(name for name in state if name.endswith("_u"))
    with pytest.raises(CannotBuild, match="spectral norm that cannot be worked out"):
        rebuilt(state | {name: torch.zeros(9)}, (8, 8))
