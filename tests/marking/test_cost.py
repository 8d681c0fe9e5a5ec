from __future__ import annotations

from pathlib import Path

import pytest
import torch
from msgspec.structs import replace
from torch import Tensor, nn

import fifomark
from fifomark.core.outcome import Metric
from fifomark.marking.cost import macs, of_model
from fifomark.marking.rubric import load_rubric
from fifomark.marking.running import Examples, Runner
from fifomark.marking.schema import MetricRule, Task

DIGITS = load_rubric(Path(fifomark.__file__).parent / "examples" / "digits")
FIVE = Task(num_classes=5)


class Last(nn.Module):
    """A recurrent layer of 6 inputs and 8 units over 10 steps, and a linear layer on its last output."""

    def __init__(self, kind: type[nn.RNNBase]) -> None:
        super().__init__()
        self.layer, self.out = kind(6, 8, batch_first=True), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.layer(x)[0][:, -1])


class Attending(nn.Module):
    def __init__(self, encoder: bool) -> None:
        super().__init__()
        self.inner = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True) if encoder else nn.MultiheadAttention(8, 2, batch_first=True)
        self.out = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.out((self.inner(x) if isinstance(self.inner, nn.TransformerEncoderLayer) else self.inner(x, x, x)[0]).mean(1))


def runner(model: nn.Module) -> Runner:
    return Runner(model.eval(), FIVE, torch.device("cpu"))


def examples(*shape: int) -> Examples:
    return Examples("all", (torch.randn(20, *shape),), torch.arange(20) % 5)


ATTENTION = 4 * 8 * 8 * 10 + 2 * 10 * 10 * 8  # four projections of 10 tokens, scores and sums over all pairs
RECURRENT = 10 * 8 * (6 + 8)  # of one gate


@pytest.mark.parametrize(
    ("model", "shape", "expected"),
    [
        (nn.Linear(7, 5), (7,), 35),
        (nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Flatten(), nn.Linear(4 * 36, 5)), (3, 6, 6), 4 * 27 * 36 + 4 * 36 * 5),
        (nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, groups=4), nn.Flatten(), nn.Linear(4 * 36, 5)), (4, 6, 6), 4 * 9 * 36 + 4 * 36 * 5),
        (Last(nn.RNN), (10, 6), RECURRENT + 40),
        (Last(nn.GRU), (10, 6), 3 * RECURRENT + 40),
        (Last(nn.LSTM), (10, 6), 4 * RECURRENT + 40),
        (Attending(encoder=False), (10, 8), ATTENTION + 40),
        (Attending(encoder=True), (10, 8), ATTENTION + 2 * 8 * 16 * 10 + 40),
    ],
    ids=["linear", "conv", "depthwise", "rnn", "gru", "lstm", "attention", "encoder"],
)
def test_macs_are_those_that_one_counts_by_hand(model: nn.Module, shape: tuple[int, ...], expected: int) -> None:
    assert macs(runner(model), examples(*shape)) == expected


def test_counting_leaves_torch_as_it_was() -> None:
    before = (torch.backends.mha.get_fastpath_enabled(), torch.backends.mkldnn.enabled)
    macs(runner(Attending(encoder=True)), examples(10, 8))
    assert (torch.backends.mha.get_fastpath_enabled(), torch.backends.mkldnn.enabled) == before


def measured(model: nn.Module, *kinds: str) -> dict[str, Metric]:
    rules = tuple(MetricRule(id=kind, kind=kind) for kind in kinds)
    seen = of_model(replace(DIGITS, task=FIVE, metrics=rules, run=replace(DIGITS.run, batch_size=16)), runner(model), 42, examples(1000))
    return {metric.id: metric for metric in seen}


def test_what_is_asked_for_is_measured_and_says_how() -> None:
    model = nn.Sequential(nn.Linear(1000, 100), nn.ReLU(), nn.Linear(100, 5))
    seen = measured(model, "parameters", "bytes", "macs", "latency_ms", "latency_p90_ms", "peak_memory_mib")
    assert (seen["parameters"].value, seen["bytes"].value, seen["macs"].value) == (42, 4 * (100_100 + 505), 100_500)
    assert all(metric.method and metric.higher_is_better is False and metric.split == "all" for metric in seen.values())
    assert seen["latency_ms"].value is not None
    assert seen["latency_p90_ms"].value is not None
    assert 0 < seen["latency_ms"].value <= seen["latency_p90_ms"].value


def test_peak_memory_is_what_lives_at_once_and_not_all_that_was_ever_made() -> None:
    deep = nn.Sequential(*(nn.ReLU() for _ in range(20)), nn.Linear(1000, 5))
    (seen,) = measured(deep, "peak_memory_mib").values()
    batch, weights = 16 * 1000 * 4, 4 * 5005
    assert seen.value is not None
    assert batch + weights + batch <= seen.value * (1 << 20) <= batch + weights + 4 * batch


def test_nothing_is_measured_that_nobody_asked_for() -> None:
    model = nn.Linear(1000, 5)
    calls: list[int] = []
    model.register_forward_pre_hook(lambda *_: calls.append(1))
    assert measured(model, "parameters")["parameters"].value == 42
    assert calls == []
