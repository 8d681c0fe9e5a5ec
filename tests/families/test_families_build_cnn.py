"""Convolutions in groups, transposed, along one, two and three axes, built as their shapes say."""

from __future__ import annotations

import pytest
import torch
from rebuilding import rebuilt, same
from torch import nn

from fifomark.core.errors import CannotBuild


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(7)


def test_groups_are_read_from_the_channels_that_arrive() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU6(), nn.Conv2d(8, 8, 3, groups=8), nn.Hardswish(), nn.Conv2d(8, 12, 1, groups=4),
        nn.Mish(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 5),
    )  # fmt: skip
    layers = [{"conv2d": 3}, "batchnorm2d", "relu6", {"conv2d": 3}, "hardswish", {"conv2d": 1}, "mish", "globalavgpool", "linear"]
    built = same(model, torch.randn(2, 3, 12, 12), {"layers": layers})
    assert [sentence for sentence in built.assumed if "groups" in sentence] == [  # type: ignore[union-attr]
        "layers[3] conv2d has 8 groups: 8 channels arrive, 3.weight (8, 1, 3, 3) takes 1 for each output",
        "layers[5] conv2d has 4 groups: 8 channels arrive, 5.weight (12, 2, 1, 1) takes 2 for each output",
    ]


def test_a_first_convolution_for_another_number_of_channels_is_never_taken_for_one_in_groups() -> None:
    model = nn.Sequential(nn.Conv2d(1, 6, 3), nn.Flatten(), nn.Linear(216, 2))
    with pytest.raises(CannotBuild, match="does not fit what arrives there"):
        rebuilt(model.state_dict(), (3, 8, 8), {"layers": [{"conv2d": 3}, "flatten", "linear"]})
    grouped = nn.Sequential(nn.Conv2d(3, 6, 3, groups=3), nn.Flatten(), nn.Linear(216, 2))
    same(grouped, torch.randn(2, 3, 8, 8), {"layers": [{"conv2d": {"kernel": 3, "groups": 3}}, "flatten", "linear"]})


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("groups", [1, 2])
def test_transposed_convolutions(axes: int, groups: int) -> None:
    convolve = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[axes - 1]
    turned = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)[axes - 1]
    model = nn.Sequential(
        convolve(2, 4, 3), nn.ReLU(), turned(4, 6, 3, stride=2, padding=1, output_padding=1, groups=groups), nn.Tanh(), convolve(6, 1, 1)
    )
    options = {"kernel": 3, "stride": 2, "padding": 1, "output_padding": 1}
    layers = [{f"conv{axes}d": 3}, "relu", {f"conv_transpose{axes}d": options}, "tanh", {f"conv{axes}d": 1}]
    same(model, torch.randn(2, 2, *[6] * axes), {"layers": layers})
