"""What each type of task is: the shape of outputs and labels, what is measured where a rubric says nothing. Known without torch.

type                       outputs             labels
multiclass-classification  (n, num_classes)    (n,) whole numbers from 0 to num_classes - 1
binary-classification      (n,) or (n, 1)      (n,) 0 or 1
multilabel-classification  (n, num_classes)    (n, num_classes) 0 or 1
regression                 (n, targets)        (n, targets) numbers; with one target (n,) as well, of either
token-classification       (n, T, num_classes) (n, T) whole numbers from 0 to num_classes - 1, or ignore_label
language-model             (n, T, num_classes) (n, T) the token that follows each position, or ignore_label
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

from fifomark.marking.schema import MetricRule, Task, TaskType
from fifomark.marking.terms import Criterion, Linear


class Kind(NamedTuple):
    """`labels` says what a label is; `per_token` whether there is one for each position of a sequence; `default` is what is measured and
    what that is worth where a rubric says nothing (None: nothing is usual)."""

    labels: Literal["class", "bits", "numbers"]
    per_token: bool
    metric: MetricRule
    criterion: Criterion | None


def _all_points(metric: MetricRule, title: str) -> tuple[MetricRule, Criterion]:
    """Points in proportion to a metric between 0 and 1."""
    return metric, Criterion(id=metric.id, title=title, points=100, metric=metric.id, scoring=Linear(start=0, end=1))


KINDS: Mapping[TaskType, Kind] = {
    "multiclass-classification": Kind(
        "class", False, *_all_points(MetricRule(id="accuracy", kind="MulticlassAccuracy", args={"average": "micro"}), "Accuracy")
    ),
    "binary-classification": Kind("class", False, *_all_points(MetricRule(id="accuracy", kind="BinaryAccuracy"), "Accuracy")),
    "multilabel-classification": Kind(
        "bits", False, *_all_points(MetricRule(id="f1", kind="MultilabelF1Score", args={"average": "macro"}), "F1 over the labels")
    ),
    "regression": Kind("numbers", False, *_all_points(MetricRule(id="r2", kind="R2Score"), "Share of the variance explained")),
    "token-classification": Kind(
        "class", True, *_all_points(MetricRule(id="accuracy", kind="MulticlassAccuracy", args={"average": "micro"}), "Accuracy")
    ),
    "language-model": Kind("class", True, MetricRule(id="perplexity", kind="Perplexity", precision=2), None),
}


def output_shape(task: Task, inputs: int, labels: tuple[int, ...]) -> tuple[int, ...]:
    """What a model must give for `inputs` examples; `labels` is the shape of theirs."""
    kind = KINDS[task.type]
    if kind.per_token:
        return (inputs, labels[1], task.width)
    return (inputs, task.width)
