"""Numbers from outputs and labels: torchmetrics classes by name, functions of the rubric's own, and what torchmetrics leaves out (the
interval, exact shares)."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np
import torch
import torchmetrics.classification
import torchmetrics.regression
import torchmetrics.text
from torch import Tensor
from torchmetrics import Metric as TorchMetric

from fifomark import plugins
from fifomark.core.errors import ConfigError
from fifomark.core.outcome import Details, Metric
from fifomark.core.text import shown
from fifomark.marking.details import tally_of
from fifomark.marking.intervals import bootstrap95, wilson95
from fifomark.marking.metric_names import BUILT_IN
from fifomark.marking.python import load_callable
from fifomark.marking.schema import MetricRule, Rubric, Task
from fifomark.marking.tasks import KINDS
from fifomark.marking.terms import SplitName

_HOMES = (torchmetrics.classification, torchmetrics.regression, torchmetrics.text)
_SHARES = ("MulticlassAccuracy", "BinaryAccuracy")  # of examples, or of positions
OwnMetric = Callable[[Tensor, Tensor], Any]
Own = dict[str, OwnMetric]  # functions of the rubric's own, by the metric's id


@dataclass(frozen=True)
class Predictions:
    """What a model said of some examples, in the forms that metrics take; `labels` as the task has them.

    torchmetrics guesses by the range of numbers whether they are logits, so it gets probabilities. In float64 these keep the order of
    float32 logits.
    """

    task: Task
    outputs: Tensor
    labels: Tensor

    def said(self) -> tuple[Tensor, Tensor]:
        """(what a metric of the task compares, with what): probabilities (n, C), (n,) or (n, L); numbers (n,) or (n, targets).

        Positions of sequences stand one after another, without those that do not count.
        """
        task, outputs, labels = self.task, self.outputs, self.labels
        if task.type == "regression":
            return (outputs.squeeze(-1), labels.squeeze(-1)) if task.targets == 1 else (outputs, labels)
        if task.type in ("binary-classification", "multilabel-classification"):
            probabilities = _undone(task, outputs.double(), torch.sigmoid)
            return (probabilities.squeeze(-1) if task.type == "binary-classification" else probabilities), labels
        if KINDS[task.type].per_token:
            counts = labels != task.ignore_label
            outputs, labels = outputs[counts], labels[counts]
        return _undone(task, outputs.double(), lambda logits: logits.softmax(dim=-1)), labels

    def logits(self) -> tuple[Tensor, Tensor]:
        """What Perplexity takes: unnormalised logarithms (n, T, C), and all labels (n, T)."""
        return (self.outputs.log() if self.task.output == "probabilities" else self.outputs), self.labels


def _undone(task: Task, outputs: Tensor, from_logits: Callable[[Tensor], Tensor]) -> Tensor:
    """Probabilities."""
    if task.output == "logits":
        return from_logits(outputs)
    return outputs.exp() if task.output == "log-probabilities" else outputs


class Meter:
    """The metrics of a rubric on one split, fed with batches; `own` are its functions, by the metric's id."""

    def __init__(self, rubric: Rubric, split: SplitName, own: Own | None = None) -> None:
        self._rubric, self._split, self._own = rubric, split, own or {}
        self._rules = [rule for rule in rubric.metrics if rule.kind not in BUILT_IN]
        self._metrics = {rule.id: made(rule, rubric.task) for rule in self._rules if rule.id not in self._own}
        self._kept: list[Predictions] | None = [] if self._own or any(rule.interval == "bootstrap" for rule in self._rules) else None
        self._tally = tally_of(rubric.task)
        self._examples = 0

    def update(self, outputs: Tensor, labels: Tensor) -> None:
        """`outputs` are finite and of the task's output shape, on the CPU like `labels`."""
        seen = Predictions(self._rubric.task, outputs, labels)
        said = _feed(self._metrics.values(), seen)
        if self._tally is not None:
            self._tally.update(*(said or seen.said()))
        self._examples += len(labels)
        if self._kept is not None:
            self._kept.append(seen)

    def metrics(self) -> tuple[Metric, ...]:
        """ConfigError where a function of the rubric's own fails: that is no fault of the model."""
        everything = self._everything()
        return tuple(self._computed(rule, everything) for rule in self._rules)

    def details(self) -> Details | None:
        """For the operator; None where the task has no classes."""
        return self._tally.details(self._split) if self._tally is not None else None

    def _everything(self) -> Predictions | None:
        if not self._kept:
            return None
        outputs, labels = torch.cat([seen.outputs for seen in self._kept]), torch.cat([seen.labels for seen in self._kept])
        return Predictions(self._rubric.task, outputs, labels)

    def _computed(self, rule: MetricRule, everything: Predictions | None) -> Metric:
        better = rule.higher_is_better
        interval, method = None, None
        if function := self._own.get(rule.id):
            assert everything is not None
            value = asked(function, rule, everything)
        else:
            metric = self._metrics[rule.id]
            better = metric.higher_is_better if better is None else better
            value = _number(metric.compute())
            if counts := _counts(rule, metric):
                # From the counts: torchmetrics divides in float32, where 19 of 20 is less than 0.95.
                right, n = counts
                value, interval = (right / n, wilson95(right, n)) if n else (None, None)
                method = "wilson"
        if rule.interval == "none":
            interval = None
        elif rule.interval == "bootstrap" and everything is not None and value is not None:
            interval, method = self._resampled(rule, everything), "bootstrap"
        return Metric(
            id=rule.id,
            split=self._split,
            value=value,
            n=self._examples,
            ci95=interval,
            higher_is_better=better,
            reason=None if value is not None else f"{rule.kind} gives no finite number on this data",
            method=method if interval else None,
        )

    def _resampled(self, rule: MetricRule, everything: Predictions) -> tuple[float, float] | None:
        def measure(rows: Tensor) -> float | None:
            some = Predictions(everything.task, everything.outputs[rows], everything.labels[rows])
            if function := self._own.get(rule.id):
                return asked(function, rule, some)
            metric = made(rule, everything.task)
            _feed([metric], some)
            return _number(metric.compute())

        return bootstrap95(measure, self._examples, self._rubric.run.seed)


def made(rule: MetricRule, task: Task) -> TorchMetric:
    """The torchmetrics object of a rule, with what the task says of it beforehand."""
    home = next(home for home in _HOMES if hasattr(home, rule.kind))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that some keep everything they see is known
        metric: TorchMetric = getattr(home, rule.kind)(**(_usual(rule.kind, task) | rule.args))
    return metric


def own_metrics(folder: str, rubric: Rubric, place: object) -> Own:
    """The functions that the rubric names, of the Python beside it or of plugins. ConfigError where one is not there."""
    return {
        rule.id: load_callable(folder, rule.kind, place, f"metric.{rule.id}.kind", plugins.METRICS)
        for rule in rubric.metrics
        if ":" in rule.kind
    }


def asked(function: OwnMetric, rule: MetricRule, seen: Predictions) -> float | None:
    """A function of the rubric's own on (outputs, labels). ConfigError where it raises, or gives no number; a plugin's error is its own."""
    try:
        result = function(seen.outputs, seen.labels, **rule.args)
        value = float(result)
    except Exception as e:
        if rule.kind.startswith(plugins.PREFIX):
            raise
        raise ConfigError(rule.kind, f"metric.{rule.id}", f"raised {type(e).__name__}: {shown(_first_line(e), 300)}") from e
    return value if isfinite(value) else None


def try_metrics(rubric: Rubric, place: object, own: Own | None = None) -> None:
    """Run every metric once on made-up numbers; ConfigError where its arguments are wrong or it gives no single number."""
    tried = _made_up(rubric.task)
    for rule in rubric.metrics:
        if rule.kind in BUILT_IN:
            continue
        key = f"metric.{rule.id}.args"
        if function := (own or {}).get(rule.id):
            asked(function, rule, tried)
            continue
        try:
            metric = made(rule, rubric.task)
            _feed([metric], tried)
            result = metric.compute()
        except Exception as e:  # whatever torchmetrics thinks of the operator's arguments
            raise ConfigError(place, key, f"{rule.kind} does not take them: {_first_line(e)}") from e
        if not isinstance(result, Tensor) or result.numel() != 1:
            raise ConfigError(place, key, f"{rule.kind} gives no single number with them", 'average = "macro" makes it one')


def _feed(metrics: Iterable[TorchMetric], seen: Predictions) -> tuple[Tensor, Tensor] | None:
    """Gives what most metrics were fed with, so that nobody has to work it out again."""
    said: tuple[Tensor, Tensor] | None = None
    for metric in metrics:
        if isinstance(metric, torchmetrics.text.Perplexity):
            metric.update(*seen.logits())
            continue
        said = said or seen.said()
        if len(said[1]):  # a batch may have no position that counts
            metric.update(*said)
    return said


def _usual(kind: str, task: Task) -> dict[str, Any]:
    if kind.startswith("Multiclass"):
        return {"num_classes": task.num_classes}
    if kind.startswith("Multilabel"):
        return {"num_labels": task.num_classes}
    if kind == "Perplexity":
        return {"ignore_index": task.ignore_label}
    takes_outputs = ("ConcordanceCorrCoef", "KendallRankCorrCoef", "PearsonCorrCoef", "SpearmanCorrCoef")
    return {"num_outputs": task.targets} if kind in takes_outputs and task.targets > 1 else {}


def _counts(rule: MetricRule, metric: Any) -> tuple[int, int] | None:
    """(right ones, all) where the metric is the share of them."""
    if rule.kind not in _SHARES or (rule.kind == "MulticlassAccuracy" and rule.args.get("average") != "micro"):
        return None
    right = metric.tp.sum() if rule.kind == "MulticlassAccuracy" else metric.tp.sum() + metric.tn.sum()
    wrong = metric.fn.sum() if rule.kind == "MulticlassAccuracy" else metric.fn.sum() + metric.fp.sum()
    return int(right), int(right + wrong)


def _made_up(task: Task) -> Predictions:
    """Examples of every class, nearly all of them right."""
    width, rows = task.width, 2 * max(2, task.width)
    noise = torch.Generator().manual_seed(0)
    match task.type:
        case "regression":
            labels: Tensor = torch.rand(rows, width, generator=noise) + 1
            return Predictions(task, labels * 1.1, labels)
        case "binary-classification":
            labels = torch.arange(rows) % 2
            return Predictions(task, _as_said(task, labels.double().reshape(-1, 1) * 0.5 + 0.2, bits=True), labels)
        case "multilabel-classification":
            labels = (torch.arange(rows).reshape(-1, 1) + torch.arange(width)) % 2
            return Predictions(task, _as_said(task, labels.double() * 0.5 + 0.2, bits=True), labels)
    labels = torch.arange(rows) % width
    probabilities = torch.eye(width, dtype=torch.float64)[labels] * 0.5 + 0.5 / width
    outputs = _as_said(task, probabilities, bits=False)
    if KINDS[task.type].per_token:
        return Predictions(task, outputs.unsqueeze(0), labels.unsqueeze(0))
    return Predictions(task, outputs, labels)


def _as_said(task: Task, probabilities: Tensor, *, bits: bool) -> Tensor:
    if task.output == "probabilities":
        return probabilities
    return torch.logit(probabilities) if bits and task.output == "logits" else probabilities.log()


def _number(result: Tensor) -> float | None:
    """None for NaN and Inf. A float32 becomes the shortest decimal that names it, so that 0.85 reaches a threshold of 0.85."""
    value = float(str(np.float32(result.item()))) if result.dtype is torch.float32 else float(result.item())
    return value if isfinite(value) else None


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
