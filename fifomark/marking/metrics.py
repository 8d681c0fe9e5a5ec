"""Numbers from outputs and labels: torchmetrics classes by name, and what they leave out (the interval, the counts)."""

from __future__ import annotations

from math import isfinite, sqrt
from typing import Any

import numpy as np
import torch
import torchmetrics.classification
from torch import Tensor
from torchmetrics import Metric as TorchMetric

from fifomark.core.errors import ConfigError
from fifomark.core.outcome import Metric
from fifomark.marking.metric_names import BUILT_IN
from fifomark.marking.schema import MetricRule, Rubric, Task
from fifomark.marking.terms import SplitName

_Z95 = 1.959963984540054  # two-sided 95 % of a normal distribution


class Meter:
    """The metrics of a rubric on one split, fed with batches."""

    def __init__(self, rubric: Rubric, split: SplitName) -> None:
        self._split, self._task = split, rubric.task
        self._rules = [rule for rule in rubric.metrics if rule.kind not in BUILT_IN]
        self._metrics = [_metric(rule, rubric.task) for rule in self._rules]
        self._examples = 0

    def update(self, outputs: Tensor, labels: Tensor) -> None:
        """`outputs` are finite and of the task's output shape, on the CPU like `labels`."""
        # torchmetrics guesses by the range of numbers whether they are logits. In float64 softmax keeps the order of float32 logits.
        probabilities = outputs.double().softmax(dim=1)
        for metric in self._metrics:
            metric.update(probabilities, labels)
        self._examples += len(labels)

    def metrics(self) -> tuple[Metric, ...]:
        return tuple(self._computed(rule, metric) for rule, metric in zip(self._rules, self._metrics, strict=True))

    def _computed(self, rule: MetricRule, metric: Any) -> Metric:
        value = _number(metric.compute())
        interval = None
        if rule.kind == "MulticlassAccuracy" and rule.args.get("average") == "micro":
            # From the counts: torchmetrics divides in float32, where 19 of 20 is less than 0.95.
            right, n = int(metric.tp.sum()), int((metric.tp + metric.fn).sum())
            value, interval = (right / n, wilson95(right, n)) if n else (None, None)
        better = metric.higher_is_better if rule.higher_is_better is None else rule.higher_is_better
        reason = None if value is not None else f"{rule.kind} gives no finite number on this data"
        return Metric(id=rule.id, split=self._split, value=value, n=self._examples, ci95=interval, higher_is_better=better, reason=reason)


def of_model(rubric: Rubric, parameters: int) -> tuple[Metric, ...]:
    """The rubric's metrics of the model itself."""
    return tuple(
        Metric(
            id=rule.id,
            split="all",
            value=float(parameters),
            n=0,
            higher_is_better=False if rule.higher_is_better is None else rule.higher_is_better,
        )
        for rule in rubric.metrics
        if rule.kind in BUILT_IN
    )


def try_metrics(rubric: Rubric, place: object) -> None:
    """Run every metric once on made-up numbers; ConfigError where its arguments are wrong or it gives no single number."""
    classes = rubric.task.width
    labels = torch.arange(2 * classes) % classes
    probabilities = torch.eye(classes, dtype=torch.float64)[labels] * 0.5 + 0.5 / classes
    for rule in rubric.metrics:
        if rule.kind in BUILT_IN:
            continue
        key = f"metric.{rule.id}.args"
        try:
            metric = _metric(rule, rubric.task)
            metric.update(probabilities, labels)
            result = metric.compute()
        except Exception as e:  # whatever torchmetrics thinks of the operator's arguments
            raise ConfigError(place, key, f"{rule.kind} does not take them: {_first_line(e)}") from e
        if not isinstance(result, Tensor) or result.numel() != 1:
            raise ConfigError(place, key, f"{rule.kind} gives no single number with them", 'average = "macro" makes it one')


def wilson95(right: int, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of the proportion right / n."""
    share = right / n
    middle = share + _Z95**2 / (2 * n)
    half = _Z95 * sqrt(share * (1 - share) / n + (_Z95 / (2 * n)) ** 2)
    return max(0.0, (middle - half) / (1 + _Z95**2 / n)), min(1.0, (middle + half) / (1 + _Z95**2 / n))


def _metric(rule: MetricRule, task: Task) -> Any:
    made: TorchMetric = getattr(torchmetrics.classification, rule.kind)(**({"num_classes": task.num_classes} | rule.args))
    return made


def _number(result: Tensor) -> float | None:
    """None for NaN and Inf. A float32 becomes the shortest decimal that names it, so that 0.85 reaches a threshold of 0.85."""
    value = float(str(np.float32(result.item()))) if result.dtype is torch.float32 else float(result.item())
    return value if isfinite(value) else None


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
