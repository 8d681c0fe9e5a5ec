from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from fifomark.core.errors import ConfigError
from fifomark.core.outcome import Metric
from fifomark.marking.intervals import wilson95
from fifomark.marking.metric_names import ANY, TORCHMETRICS, bounds, more_is_better
from fifomark.marking.metrics import _HOMES, Meter, Predictions, _computed, _number, _quiet, made, try_metrics
from fifomark.marking.rubric import load_rubric
from fifomark.marking.schema import MetricRule, Task, TaskType

LOGITS = torch.randn(60, 3, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(60) % 3


LOADS = "[[criterion]]\nid = 'loads'\npoints = 1\ncheck = 'loads'\n"


def with_metric(write_rubric, kind: str, args: str = ""):
    rule = f"[[metric]]\nid = 'accuracy'\nkind = '{kind}'\nargs = {{{args}}}\n"
    return load_rubric(write_rubric(rule + LOADS))


def measured(rubric, logits=LOGITS, labels=LABELS) -> Metric:
    meter = Meter(rubric, "all")
    meter.update(logits, labels)
    (metric,) = meter.metrics()
    return metric


@pytest.mark.parametrize("kind", TORCHMETRICS["multiclass-classification"])
def test_every_metric_that_a_rubric_may_name_gives_one_number(write_rubric, kind: str) -> None:
    rubric = with_metric(write_rubric, kind, "beta = 2.0" if kind == "MulticlassFBetaScore" else "")
    try_metrics(rubric, "rubric.toml")
    assert isinstance(measured(rubric).value, float)


@pytest.mark.parametrize(
    ("kind", "args", "said"),
    [
        ("MulticlassF1Score", "averag = 'macro'", "does not take them"),
        ("MulticlassF1Score", "averag = 'macro'", r"did you mean 'average'\?"),
        ("MulticlassAccuracy", "topk = 2", r"did you mean 'top_k'\?"),
        ("MulticlassAccuracy", "xyz = 2", "it takes num_classes, top_k, average"),
        ("MulticlassF1Score", "average = 'mean'", "does not take them"),
        ("MulticlassF1Score", "average = 'none'", "no single number"),
        ("MulticlassFBetaScore", "", "does not take them"),
    ],
)
def test_arguments_that_torchmetrics_refuses_are_the_operators_error(write_rubric, kind: str, args: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        try_metrics(with_metric(write_rubric, kind, args), "rubric.toml")
    assert caught.value.key == "metric.accuracy.args"


def test_the_sense_of_a_metric_is_the_one_that_torchmetrics_tells() -> None:
    for kind in {kind for kinds in TORCHMETRICS.values() for kind in kinds}:
        told = next(getattr(home, kind).higher_is_better for home in _HOMES if hasattr(home, kind))
        known = more_is_better(MetricRule(id="m", kind=kind))
        assert known == told if told is not None else known is (kind != "TweedieDevianceScore")


def predictions(task: Task) -> Iterator[Predictions]:
    """What is right, what is wrong wherever it can be, what is always the same, and chance, on some labels."""
    draws, n = torch.Generator().manual_seed(0), 24
    for shift in (0.0, -4.0, 4.0):
        match task.type:
            case "regression":
                labels = torch.randn(n, 1, generator=draws) + shift
                right, wrong = labels.clone(), -3 * labels
            case "multilabel-classification":
                labels = torch.rand(n, 3, generator=draws).add(shift / 20).round().clamp(0, 1).long()
                right = labels * 40.0 - 20
                wrong = -right
            case "binary-classification":
                labels = torch.rand(n, generator=draws).add(shift / 20).round().clamp(0, 1).long()
                right = labels[:, None] * 40.0 - 20
                wrong = -right
            case _:
                labels = torch.randint(3, (n,), generator=draws)
                right = torch.eye(3)[labels] * 20
                wrong = right.roll(1, -1)
        for outputs in (right, wrong, torch.ones_like(right), torch.randn(right.shape, generator=draws)):
            per_token = task.type in ("token-classification", "language-model")
            yield Predictions(task, outputs[None] if per_token else outputs, labels[None] if per_token else labels)


NEEDED = {"FBetaScore": {"beta": 2.0}, "MinkowskiDistance": {"p": 3.0}}
KINDS = [(task, kind) for task, kinds in TORCHMETRICS.items() for kind in kinds]


@pytest.mark.parametrize(("type_", "kind"), KINDS)
def test_no_metric_leaves_its_bounds(type_: TaskType, kind: str) -> None:
    task = Task(type=type_, num_classes=None if type_ in ("regression", "binary-classification") else 3)
    rule = MetricRule(id="m", kind=kind, args=next((args for end, args in NEEDED.items() if kind.endswith(end)), {}))
    values = []
    for seen in predictions(task):
        metric = made(rule, task)
        with _quiet():
            metric.update(*seen.asked_by(rule))
        if (value := _number(_computed(metric, task))) is not None:
            values.append(value)
    within = bounds(kind)
    assert values
    assert within.least is None or min(values) >= within.least - 1e-5, values
    assert within.most is None or max(values) <= within.most + 1e-5, values
    best = within.most if more_is_better(rule) else within.least
    if kind in ("BinaryHingeLoss", "MultilabelCoverageError"):  # 0 needs labels of one class only
        return
    assert best is None or any(value == pytest.approx(best, abs=1e-3) for value in values), values


def test_a_metric_that_divides_by_the_mean_has_no_bounds() -> None:
    assert bounds("NormalizedRootMeanSquaredError") == bounds("metrics:top5") == ANY


def test_accuracy_is_exact_and_carries_its_interval(write_rubric) -> None:
    right = torch.eye(3)[LABELS[:20]]
    right[0] = right[0].roll(1)
    metric = measured(load_rubric(write_rubric()), right, LABELS[:20])
    assert metric.value == 19 / 20  # in float32 it would be less, and miss a threshold of 0.95
    assert metric.ci95 == wilson95(19, 20)
    assert (metric.n, metric.higher_is_better) == (20, True)


def test_the_interval_is_wilsons() -> None:
    low, high = wilson95(537, 597)
    assert (low, high) == (pytest.approx(0.873, abs=1e-3), pytest.approx(0.921, abs=1e-3))
    assert wilson95(10, 10) == (pytest.approx(0.7225, abs=1e-4), pytest.approx(1.0))
    assert wilson95(0, 10) == (0.0, pytest.approx(0.2775, abs=1e-4))


def test_a_mean_over_classes_has_no_interval(write_rubric) -> None:
    assert measured(with_metric(write_rubric, "MulticlassAccuracy", "average = 'macro'")).ci95 is None


def test_logits_that_look_like_probabilities_are_still_logits(write_rubric) -> None:
    rubric = with_metric(write_rubric, "MulticlassCalibrationError")
    looks_like = LOGITS.sigmoid()  # all in 0..1
    shifted = looks_like + 10  # the same softmax, and plainly no probabilities
    assert measured(rubric, looks_like).value == pytest.approx(measured(rubric, shifted).value, abs=1e-6)


def test_nearly_equal_logits_keep_their_order(write_rubric) -> None:
    close = torch.tensor([[100.0, 100.00001, 0.0]])
    assert measured(load_rubric(write_rubric()), close, torch.tensor([1])).value == 1.0


def test_the_rubric_may_overrule_what_is_better(write_rubric) -> None:
    rule = LOADS + "[[metric]]\nid = 'accuracy'\nkind = '{}'\n"
    assert measured(load_rubric(write_rubric(rule.format("MulticlassCalibrationError")))).higher_is_better is False
    assert measured(load_rubric(write_rubric(rule.format("MulticlassCalibrationError") + "higher_is_better = true"))).higher_is_better


def test_what_is_no_number_is_null_with_a_reason(write_rubric) -> None:
    metric = measured(with_metric(write_rubric, "MulticlassAccuracy", "average = 'micro', ignore_index = 0"), labels=LABELS * 0)
    assert metric.value is None
    assert metric.reason is not None
    assert "no finite number" in metric.reason
