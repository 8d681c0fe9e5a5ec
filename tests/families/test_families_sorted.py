"""Files that were sorted by name, as safetensors and `sorted` leave them: torch loads them all the same, and so do we."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from rebuilding import rebuilt, specs
from torch import Tensor, nn
from torch.nn import functional as F

from fifomark.core.weights import TensorSpec
from fifomark.families.layers import read, sorted_by_name

State = Mapping[str, Tensor]


def by_name(state: State) -> State:
    return dict(sorted(state.items()))


def as_safetensors(state: State) -> State:
    """The largest dtypes first, and by name among them."""
    return dict(sorted(state.items(), key=lambda one: (-one[1].element_size(), one[0])))


class Numbered(nn.Module):
    def __init__(self, bias: bool = True) -> None:
        super().__init__()
        for i in range(1, 13):
            setattr(self, f"fc{i}", nn.Linear(8, 8, bias=bias))

    def forward(self, x: Tensor) -> Tensor:
        for i in range(1, 12):
            x = torch.tanh(getattr(self, f"fc{i}")(x))
        return self.fc12(x)  # type: ignore[no-any-return]


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.inp, self.enc, self.out = nn.Linear(4, 8), nn.TransformerEncoder(layer, 12, enable_nested_tensor=False), nn.Linear(8, 3)
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.enc(self.inp(x)).mean(1))  # type: ignore[no-any-return]


class Listed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks, self.fc = nn.ModuleList(nn.GRU(4, 4, batch_first=True) for _ in range(11)), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)[0]
        return self.fc(x[:, -1])  # type: ignore[no-any-return]


class Pictures(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(4):
            layers += [nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU()]
        self.features, self.head = nn.Sequential(*layers), nn.Linear(3 * 16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.features(x)).flatten(1))  # type: ignore[no-any-return]


def perceptron() -> nn.Module:
    layers: list[nn.Module] = []
    for _ in range(6):
        layers += [nn.Linear(8, 8), nn.BatchNorm1d(8), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(8, 3))


BLOCK = [{"conv2d": {"kernel": 3, "padding": 1}}, {"batchnorm2d": {}}, {"relu": {}}]
MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], dict[str, Any]]] = {
    "sequential": (perceptron, (5, 8), {"activation": "relu"}),
    "numbered": (Numbered, (5, 8), {"activation": "tanh"}),
    "numbered-no-bias": (lambda: Numbered(bias=False), (5, 8), {"activation": "tanh"}),
    "encoder": (Encoder, (5, 7, 4), {"nhead": 2, "norm_first": False, "activation": "relu", "pooling": "mean"}),
    "gru": (Listed, (5, 7, 4), {"batch_first": True, "pooling": "last"}),
    "cnn": (Pictures, (5, 3, 4, 4), {"layers": [*BLOCK * 4, {"flatten": {}}, {"linear": {}}]}),
}


@pytest.mark.parametrize("put", [by_name, as_safetensors])
@pytest.mark.parametrize("name", MODELS)
def test_a_file_that_was_sorted_by_name_computes_what_it_computed(name: str, put: Callable[[State], State]) -> None:
    torch.manual_seed(7)
    make, shape, declared = MODELS[name]
    original, x = make().eval(), torch.randn(shape)
    for parameter in original.parameters():
        if parameter.ndim == 1:
            nn.init.normal_(parameter)
    for key, buffer in original.named_buffers():
        if "running" in key:
            buffer.uniform_(0.5, 2.0)
    state = put(original.state_dict())
    assert sorted_by_name(specs(state))
    model = rebuilt(state, shape[1:], declared)
    with torch.no_grad():
        torch.testing.assert_close(model(x), original(x), rtol=0, atol=1e-5)


@pytest.mark.parametrize("make", [make for make, _, _ in MODELS.values()])
def test_a_file_as_torch_writes_it_is_not_taken_for_sorted(make: Callable[[], nn.Module]) -> None:
    assert not sorted_by_name(specs(make().state_dict()))


def test_one_layer_or_none_is_in_no_order() -> None:
    assert not sorted_by_name([])
    assert not sorted_by_name(specs(by_name(nn.Linear(4, 3).state_dict())))
    assert not sorted_by_name(specs(nn.Sequential(*(nn.Linear(4, 4, bias=False) for _ in range(9))).state_dict()))


def test_numbers_of_any_length_are_compared_not_counted() -> None:
    names = [f"a{'9' * 5000}.weight", f"a1{'0' * 5000}.weight", "a007.weight", "a10.weight", "a8.weight", "a.weight", "²3.weight"]
    weights = [TensorSpec(name=name, dtype="float32", shape=(2, 2)) for name in sorted(names)]
    assert [leaf.path for leaf in read(weights).leaves if len(leaf.path) < 9] == ["a007", "a8", "a10", "a", "²3"]
    assert [leaf.path[1] for leaf in read(weights).leaves if len(leaf.path) > 9] == ["9", "1"]
