"""Networks in which what arrives goes several ways, built from names and shapes and from what the rubric says of the ways."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from rebuilding import rebuilt, same
from torch import Tensor, nn
from torch.nn import functional as F

from fifomark.core.errors import CannotBuild, ConfigError
from fifomark.families import registry
from fifomark.families.family import settle


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(7)


# ResNet


def conv(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False)


def shortcut(inputs: int, outputs: int, stride: int) -> nn.Module | None:
    return nn.Sequential(conv(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs)) if stride != 1 or inputs != outputs else None


class Basic(nn.Module):
    """torchvision's, after its description."""

    def __init__(self, inputs: int, outputs: int, stride: int, name: str = "downsample") -> None:
        super().__init__()
        self.conv1, self.bn1 = conv(inputs, outputs, 3, stride), nn.BatchNorm2d(outputs)
        self.conv2, self.bn2 = conv(outputs, outputs, 3), nn.BatchNorm2d(outputs)
        self.name = name
        self.add_module(name, shortcut(inputs, outputs, stride))

    def forward(self, x: Tensor) -> Tensor:
        way = getattr(self, self.name)
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + (x if way is None else way(x)))


class Bottleneck(nn.Module):
    def __init__(self, inputs: int, width: int, stride: int, groups: int = 1) -> None:
        super().__init__()
        outputs = 4 * width
        self.conv1, self.bn1 = conv(inputs, width, 1), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = conv(width, width, 3, stride, groups), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = conv(width, outputs, 1), nn.BatchNorm2d(outputs)
        self.downsample = shortcut(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))
        return F.relu(self.bn3(self.conv3(y)) + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    def __init__(self, blocks: list[list[nn.Module]], width: int, small: bool = False, head: str = "fc") -> None:
        super().__init__()
        self.conv1 = conv(3, 8, 3) if small else conv(3, 8, 7, 2)
        self.bn1, self.small, self.head, self.count = nn.BatchNorm2d(8), small, head, len(blocks)
        for at, stage in enumerate(blocks):
            self.add_module(f"layer{at + 1}", nn.Sequential(*stage))
        self.add_module(head, nn.Linear(width, 5))

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = x if self.small else F.max_pool2d(x, 3, 2, 1)
        for at in range(self.count):
            x = getattr(self, f"layer{at + 1}")(x)
        logits: Tensor = getattr(self, self.head)(x.mean((2, 3)))
        return logits


RESNETS = {
    "resnet18": lambda: ResNet([[Basic(8, 8, 1), Basic(8, 8, 1)], [Basic(8, 16, 2), Basic(16, 16, 1)], [Basic(16, 24, 2)]], 24),
    "resnet50": lambda: ResNet([[Bottleneck(8, 4, 1), Bottleneck(16, 4, 1)], [Bottleneck(16, 8, 2), Bottleneck(32, 8, 1)]], 32),
    "resnext": lambda: ResNet([[Bottleneck(8, 8, 1, 4)], [Bottleneck(32, 8, 2, 4)]], 32),
    "for small pictures": lambda: ResNet([[Basic(8, 8, 1, "shortcut")], [Basic(8, 16, 2, "shortcut")]], 16, small=True, head="linear"),
}


@pytest.mark.parametrize("name", RESNETS)
def test_a_resnet_is_built_from_one_word(name: str) -> None:
    same(RESNETS[name](), torch.randn(2, 3, 32, 32), {"layers": "resnet"})


def test_a_resnet_below_a_prefix_is_the_same() -> None:
    model = RESNETS["resnet18"]().eval()
    x = torch.randn(2, 3, 32, 32)
    built = rebuilt({f"backbone.{name}": tensor for name, tensor in model.state_dict().items()}, (3, 32, 32), {"layers": "resnet"})
    with torch.no_grad():
        torch.testing.assert_close(built(x), model(x), rtol=0, atol=1e-6)


@pytest.mark.parametrize("change", ["a layer more", "a layer less", "three axes"])
def test_what_is_no_resnet_is_refused_by_name(change: str) -> None:
    state = dict(RESNETS["resnet18"]().state_dict())
    if change == "a layer more":
        state |= {"extra.weight": torch.zeros(24, 24, 3, 3)}
    elif change == "a layer less":
        state = {name: tensor for name, tensor in state.items() if not name.startswith(("fc", "bn1"))}
    else:
        state = {name: tensor.unsqueeze(-1) if tensor.dim() == 4 else tensor for name, tensor in state.items()}
    with pytest.raises(CannotBuild, match="no ResNet as torchvision's has this there") as e:
        rebuilt(state, (3, 32, 32), {"layers": "resnet"})
    assert [finding.code for finding in e.value.findings] == ["FM505"]


# Ways written out


class Ways(nn.Module):
    """SqueezeNet's fire, squeeze and excitation, a dense layer, a plain residual."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.squeeze = nn.Conv2d(1, 6, 3, padding=1), nn.Conv2d(6, 4, 1)
        self.expand1, self.expand3 = nn.Conv2d(4, 5, 1), nn.Conv2d(4, 7, 3, padding=1)
        self.fc1, self.fc2 = nn.Conv2d(12, 3, 1), nn.Conv2d(3, 12, 1)
        self.dense, self.same = nn.Conv2d(12, 4, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)
        self.head = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.squeeze(self.stem(x).relu())
        x = torch.cat((self.expand1(x).relu(), self.expand3(x).relu()), 1)
        x = x * self.fc2(self.fc1(F.adaptive_avg_pool2d(x, 1)).relu()).sigmoid()
        x = torch.cat((x, self.dense(x)), 1)
        x = (x + self.same(x)).relu()
        return self.head(x.mean((2, 3)))


WAYS: list[Any] = [
    {"conv2d": {"kernel": 3, "padding": 1}}, "relu", {"conv2d": 1},
    {"parallel": [[{"conv2d": 1}, "relu"], [{"conv2d": {"kernel": 3, "padding": 1}}, "relu"]]},
    {"gate": [{"adaptiveavgpool2d": 1}, {"conv2d": 1}, "relu", {"conv2d": 1}, "sigmoid"]},
    {"parallel": [[], [{"conv2d": {"kernel": 3, "padding": 1}}]]},
    {"residual": [{"conv2d": {"kernel": 3, "padding": 1}}]}, "relu", "globalavgpool", "linear",
]  # fmt: skip


def test_sums_products_and_ways_side_by_side() -> None:
    same(Ways(), torch.randn(2, 1, 9, 9), {"layers": WAYS})


class Excited(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc1, self.fc2, self.out = nn.Conv2d(2, 6, 3), nn.Linear(6, 3), nn.Linear(3, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        gate = self.fc2(self.fc1(x.mean((2, 3))).relu()).sigmoid()
        return self.out((x * gate[:, :, None, None]).mean((2, 3)))


def test_a_gate_of_linear_layers_has_one_number_a_channel() -> None:
    gate = {"gate": ["globalavgpool", "linear", "relu", "linear", "sigmoid"]}
    same(Excited(), torch.randn(2, 2, 6, 6), {"layers": [{"conv2d": 3}, gate, "globalavgpool", "linear"]})


# TextCNN


class TextCNN(nn.Module):
    """Three widths of window over embedded words, the largest of each."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, 8)
        self.convs = nn.ModuleList(nn.Conv1d(8, 6, size) for size in (2, 3, 4))
        self.fc = nn.Linear(18, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embedding(x).transpose(1, 2)
        return self.fc(torch.cat([conv(x).relu().amax(2) for conv in self.convs], 1))


class Kim(nn.Module):
    """The same, as pictures of one channel."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, 8)
        self.convs = nn.ModuleList(nn.Conv2d(1, 6, (size, 8)) for size in (2, 3))
        self.fc = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).unsqueeze(1)
        return self.fc(torch.cat([conv(x).relu().flatten(2).amax(2) for conv in self.convs], 1))


def test_a_text_cnn() -> None:
    ways = {"parallel": [[{"conv1d": size}, "relu", "globalmaxpool"] for size in (2, 3, 4)]}
    same(TextCNN(), torch.randint(0, 50, (3, 12)), {"layers": ["embedding", ways, "linear"]})


def test_a_text_cnn_over_pictures_of_one_channel() -> None:
    ways = {"parallel": [[{"conv2d": [size, 8]}, "relu", "globalmaxpool"] for size in (2, 3)]}
    same(Kim(), torch.randint(0, 50, (3, 12)), {"layers": [{"embedding": "last"}, "unsqueeze", ways, "linear"]})


# What is wrong is told


@pytest.mark.parametrize(
    ("layers", "said"),
    [
        ("resnett", "did you mean 'resnet'?"),
        ([{"residual": 3}], "layers[0].residual: must be a list of layers, found 3"),
        ([{"residual": {"bodi": []}}], "layers[0].residual.bodi: unknown option (did you mean 'body'?)"),
        ([{"residual": {"body": [{"conv2": 3}]}}], "layers[0].residual.body[0]: 'conv2' is no layer (did you mean 'conv2d'?)"),
        ([{"parallel": [["relu"]]}], "layers[0].parallel: must be two or more lists of layers"),
        ([{"gaet": []}], "layers[0]: 'gaet' is no layer (did you mean 'gate'?)"),
        (["relu", "embedding"], "layers[1]: an embedding takes the tokens themselves"),
        ([{"residual": ["embedding"]}], "layers[0].residual[0]: an embedding takes the tokens themselves"),
    ],
)
def test_a_mistake_in_the_rubric_is_told_by_its_place(layers: object, said: str) -> None:
    with pytest.raises(ConfigError) as e:
        settle(registry.family("cnn"), {"layers": layers}, "rubric.toml")
    assert said in str(e.value)


def test_lists_in_lists_without_end_are_refused() -> None:
    layers: list[Any] = ["relu"]
    for _ in range(2000):
        layers = [{"residual": layers}]
    with pytest.raises(ConfigError, match="nested more than 8 deep"):
        settle(registry.family("cnn"), {"layers": layers}, "rubric.toml")


@pytest.mark.parametrize(
    ("layers", "said"),
    [
        ([{"residual": [{"conv2d": 3}]}, "flatten", "linear"], "the sum of 1×4×4 and 1×6×6"),
        ([{"conv2d": 3}, {"residual": ["flatten"]}, "linear"], "layers[1] residual does not fit what arrives there, 1×4×4 an example"),
    ],
)
def test_ways_that_do_not_come_together_are_told(layers: list[Any], said: str) -> None:
    model = nn.Sequential(nn.Conv2d(1, 1, 3), nn.Flatten(), nn.Linear(16, 2))
    with pytest.raises(CannotBuild) as e:
        rebuilt(model.state_dict(), (1, 6, 6), {"layers": layers})
    assert said in str(e.value)
