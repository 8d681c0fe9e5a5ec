"""Numbers from outputs and labels: torchmetrics classes by name, functions of the rubric's own, and what torchmetrics leaves out (the
interval, exact shares)."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from math import isfinite
from typing import Any

import numpy as np
import torch
import torchmetrics.classification
import torchmetrics.regression
import torchmetrics.text
from torch import Tensor
from torchmetrics import Metric as TorchMetric

from fifomark.core.errors import ConfigError
from fifomark.core.nearest import nearest
from fifomark.core.outcome import Details, Metric
from fifomark.core.text import shown
from fifomark.marking.details import tally_of
from fifomark.marking.intervals import RESAMPLES, Bootstrap, bootstrap95, wilson95
from fifomark.marking.metric_names import BUILT_IN, more_is_better
from fifomark.marking.own_metrics import OwnMetrics
from fifomark.marking.schema import MetricRule, Rubric, Task
from fifomark.marking.tasks import KINDS
from fifomark.marking.terms import SplitName

_HOMES = (torchmetrics.classification, torchmetrics.regression, torchmetrics.text)
_TOGETHER = 1 << 22  # numbers of outputs that may wait
_TRIED = 32  # made-up examples
_BY_SCORE = ("MulticlassAUROC", "MulticlassAveragePrecision", "MulticlassCalibrationError", "MulticlassHingeLoss")
_HARMLESS = {"average", "threshold", "top_k"}  # arguments that do not say which labels there are
_SHARES = ("MulticlassAccuracy", "BinaryAccuracy")  # of examples, or of positions


@dataclass(frozen=True)
class Predictions:
    """What a model said of some examples, in the forms that metrics take; `labels` as the task has them.

    Positions of sequences stand one after another, without those that do not count.
    """

    task: Task
    outputs: Tensor
    labels: Tensor

    def copied(self) -> Predictions:
        """The same, for a function that may write to what it is given."""
        return Predictions(self.task, self.outputs.clone(), self.labels.clone())

    @cached_property
    def counted(self) -> tuple[Tensor, Tensor]:
        """(outputs, labels) of the examples or positions that count."""
        task, outputs, labels = self.task, self.outputs, self.labels
        if task.type == "regression":
            return (outputs.squeeze(-1), labels.squeeze(-1)) if task.targets == 1 else (outputs, labels)
        if task.type == "binary-classification":
            return outputs.squeeze(-1), labels
        if KINDS[task.type].per_token:
            counts = labels != task.ignore_label
            return outputs[counts], labels[counts]
        return outputs, labels

    @cached_property
    def scores(self) -> Tensor:
        """Probabilities (n, C), (n,) or (n, L) in the outputs' own precision; numbers of a regression.

        torchmetrics guesses by the range of numbers whether they are logits, so it gets none.
        """
        outputs, task = self.counted[0], self.task
        if task.type == "regression" or task.output == "probabilities":
            return outputs
        if task.output == "log-probabilities":
            return outputs.exp()
        bits = task.type in ("binary-classification", "multilabel-classification")
        return outputs.sigmoid() if bits else outputs.softmax(dim=-1)

    @cached_property
    def classes(self) -> Tensor:
        """The class of the largest output (n,): two that differ in their last digit only have one probability."""
        return self.counted[0].argmax(dim=-1)

    def asked_by(self, rule: MetricRule) -> tuple[Tensor, Tensor]:
        """What the metric of a rule takes."""
        if rule.kind == "Perplexity":  # unnormalised logarithms (n, T, C), and all labels (n, T)
            return (self.outputs.log() if self.task.output == "probabilities" else self.outputs), self.labels
        by_class = rule.kind.startswith("Multiclass") and rule.kind not in _BY_SCORE and "top_k" not in rule.args
        return (self.classes if by_class else self.scores), self.counted[1]


class Meter:
    """The metrics of a rubric on one split, fed with batches; `own` are its functions, by the metric's id."""

    def __init__(self, rubric: Rubric, split: SplitName, own: OwnMetrics | None = None) -> None:
        self._rubric, self._split, self._own = rubric, split, own or {}
        self._rules = [rule for rule in rubric.metrics if rule.kind not in BUILT_IN]
        self._metrics = {rule.id: _trusting(made(rule, rubric.task), rule) for rule in self._rules if rule.id not in self._own}
        self._keeps = bool(self._own) or any(rule.interval == "bootstrap" for rule in self._rules)
        self.reset()

    def reset(self) -> None:
        """Forget all that was fed."""
        for metric in self._metrics.values():
            metric.reset()
        self._kept: list[Predictions] = []
        self._tally = tally_of(self._rubric.task)
        self._examples = 0
        self._waiting: list[tuple[Tensor, Tensor]] = []
        self._waits = 0  # numbers
        self._troubles: dict[str, str] = {}  # what a metric could not take of this model, by its id

    def update(self, outputs: Tensor, labels: Tensor) -> None:
        """`outputs` are finite and of the task's output shape, on the CPU like `labels`."""
        self._examples += len(labels)
        self._waiting.append((outputs, labels))
        self._waits += outputs.numel()
        if self._waits >= _TOGETHER:
            self._feed()

    def _feed(self) -> None:
        """A metric takes about as long over one batch as over many: what waits is fed at once."""
        if not self._waiting:
            return
        seen = Predictions(self._rubric.task, *(torch.cat(parts) for parts in zip(*self._waiting, strict=True)))
        self._waiting, self._waits = [], 0
        for rule in self._rules:
            if rule.id in self._metrics and rule.id not in self._troubles:
                self._troubles.update(_fed(rule, self._metrics[rule.id], seen))
        if self._tally is not None:
            self._tally.update(seen.scores, seen.counted[1])
        if self._keeps:
            self._kept.append(seen)

    def metrics(self) -> tuple[Metric, ...]:
        """ConfigError or PluginFailed where a function of the operator's fails: that is no fault of the model."""
        self._feed()
        everything = self._everything()
        return tuple(self._computed(rule, everything) for rule in self._rules)

    def details(self) -> Details | None:
        """For the operator; None where the task has no classes."""
        self._feed()
        return self._tally.details(self._split) if self._tally is not None else None

    def _everything(self) -> Predictions | None:
        if not self._kept:
            return None
        outputs, labels = torch.cat([seen.outputs for seen in self._kept]), torch.cat([seen.labels for seen in self._kept])
        return Predictions(self._rubric.task, outputs, labels)

    def _computed(self, rule: MetricRule, everything: Predictions | None) -> Metric:
        interval, method, reason = None, None, None
        if function := self._own.get(rule.id):
            assert everything is not None
            copy = everything.copied()
            value = function(copy.outputs, copy.labels)
        else:
            metric = self._metrics[rule.id]
            value = self._value(rule, metric)
            if value is not None and (counts := _counts(rule, metric)):
                # From the counts: torchmetrics divides in float32, where 19 of 20 is less than 0.95.
                right, n = counts
                value, interval = (right / n, wilson95(right, n)) if n else (None, None)
                method = "wilson"
        if rule.interval == "none":
            interval = None
        elif rule.interval == "bootstrap" and everything is not None and value is not None:
            (interval, without), method = self._resampled(rule, everything), "bootstrap"
            if without:
                reason = (
                    f"no interval: {without} of {RESAMPLES} draws of the examples have no {rule.kind}, as where a class is not among them"
                )
        return Metric(
            id=rule.id,
            split=self._split,
            value=value,
            n=self._examples,
            ci95=interval,
            higher_is_better=more_is_better(rule),
            reason=reason if value is not None else self._troubles.get(rule.id, f"{rule.kind} gives no finite number on this data"),
            method=method if interval else None,
        )

    def _value(self, rule: MetricRule, metric: TorchMetric) -> float | None:
        if rule.id in self._troubles:
            return None
        try:
            return _number(_computed(metric, self._rubric.task))
        except Exception as e:  # of what this model gives: the rule itself was tried
            self._troubles[rule.id] = f"{rule.kind}: {shown(_first_line(e), 300)}"
            return None

    def _resampled(self, rule: MetricRule, everything: Predictions) -> Bootstrap:
        def measure(rows: Tensor) -> float | None:
            some = Predictions(everything.task, everything.outputs[rows], everything.labels[rows])
            if function := self._own.get(rule.id):
                return function(some.outputs, some.labels)
            metric = made(rule, everything.task)
            return None if _fed(rule, metric, some) else _number(_computed(metric, everything.task))

        return bootstrap95(measure, self._examples, self._rubric.run.seed)


def made(rule: MetricRule, task: Task) -> TorchMetric:
    """The torchmetrics object of a rule, with what the task says of it beforehand."""
    home = next(home for home in _HOMES if hasattr(home, rule.kind))
    with _quiet():  # that some keep everything they see is known
        metric: TorchMetric = getattr(home, rule.kind)(**(_usual(rule.kind, task) | rule.args))
    return metric


def _trusting(metric: TorchMetric, rule: MetricRule) -> TorchMetric:
    """The same, without its search for labels and classes that there are none of, which takes longer than to count a small model's: labels
    were checked when they were read, and classes are made here. Where the rule says otherwise what there is, it keeps looking."""
    if hasattr(metric, "validate_args") and rule.args.keys() <= _HARMLESS:
        metric.validate_args = False
    return metric


def try_metrics(rubric: Rubric, place: object, own: OwnMetrics | None = None) -> None:
    """Run every metric once on made-up numbers; ConfigError where its arguments are wrong or it gives no single number."""
    tried = _made_up(rubric.task)
    for rule in rubric.metrics:
        if rule.kind in BUILT_IN:
            continue
        key = f"metric.{rule.id}.args"
        if function := (own or {}).get(rule.id):
            function(tried.outputs, tried.labels)
            continue
        try:
            metric = made(rule, rubric.task)
            with _quiet():
                metric.update(*tried.asked_by(rule))
            result = _computed(metric, rubric.task)
        except Exception as e:  # whatever torchmetrics thinks of the operator's arguments
            raise ConfigError(place, key, f"{rule.kind} does not take them: {_first_line(e)}", _meant(rule)) from e
        if not isinstance(result, Tensor) or result.numel() != 1:
            hint = 'average = "macro" makes it one' if rule.kind.startswith(("Multiclass", "Multilabel")) else "leave them out"
            raise ConfigError(place, key, f"{rule.kind} gives no single number with them", hint)


def _meant(rule: MetricRule) -> str:
    """Of the first argument that the class does not have, which was meant."""
    made_by = getattr(next(home for home in _HOMES if hasattr(home, rule.kind)), rule.kind)
    known = [name for name in inspect.signature(made_by.__init__).parameters if name not in ("self", "kwargs")]
    strange = next((name for name in rule.args if name not in known), None)
    near = nearest(strange, known) if strange else None
    return f"did you mean {near!r}?" if near else f"it takes {', '.join(known)}" if strange else ""


@contextmanager
def _quiet() -> Iterator[None]:
    """Without torchmetrics' warnings, which nobody here can act on; and without the table of n × classes² that it counts with where torch
    is to be deterministic: on the CPU it is."""
    strict = torch.are_deterministic_algorithms_enabled()
    torch.set_deterministic_debug_mode("default")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.set_deterministic_debug_mode("error" if strict else "default")


def _fed(rule: MetricRule, metric: TorchMetric, seen: Predictions) -> dict[str, str]:
    """What the metric of `rule` could not take, by its id; empty when all is well."""
    said = seen.asked_by(rule)
    if not len(said[1]):
        return {}  # a batch may have no position that counts
    try:
        with _quiet():
            metric.update(*said)
    except Exception as e:  # of what this model gives: the rule itself was tried
        return {rule.id: f"{rule.kind}: {shown(_first_line(e), 300)}"}
    return {}


def _computed(metric: TorchMetric, task: Task) -> Tensor:
    """Where it is a number for each of several targets, their mean."""
    with _quiet():
        result: Tensor = metric.compute()
    each = task.type == "regression" and isinstance(result, Tensor) and result.shape == (task.targets,)
    return result.mean() if each else result


def _usual(kind: str, task: Task) -> dict[str, Any]:
    if kind.startswith("Multiclass"):
        return {"num_classes": task.num_classes}
    if kind.startswith("Multilabel"):
        return {"num_labels": task.num_classes}
    if kind == "Perplexity":
        return {"ignore_index": task.ignore_label}
    takes_outputs = ("ConcordanceCorrCoef", "KendallRankCorrCoef", "PearsonCorrCoef", "RelativeSquaredError", "SpearmanCorrCoef")
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
    width, rows = task.width, min(2 * max(2, task.width), _TRIED)
    noise = torch.Generator().manual_seed(0)
    match task.type:
        case "regression":
            labels: Tensor = torch.rand(rows, width, generator=noise) + 1
            return Predictions(task, labels * 1.1, labels)
        case "binary-classification":
            labels = torch.arange(rows) % 2
            return Predictions(task, _as_said(task, labels.float().reshape(-1, 1) * 0.5 + 0.2, bits=True), labels)
        case "multilabel-classification":
            labels = (torch.arange(rows).reshape(-1, 1) + torch.arange(width)) % 2
            return Predictions(task, _as_said(task, labels.float() * 0.5 + 0.2, bits=True), labels)
    labels = torch.arange(rows) % width
    probabilities = torch.full((rows, width), 0.5 / width).scatter_add_(1, labels[:, None], torch.full((rows, 1), 0.5))
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
