from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fifomark.marking.baseline import Baseline
from fifomark.marking.schema import Task
from fifomark.marking.tasks import output_shape

CLASSES = torch.tensor([0, 1, 1, 2, 1, 0])
X = torch.randn(6, 5)


@pytest.mark.parametrize(
    ("task", "labels"),
    [
        (Task(num_classes=3), CLASSES),
        (Task(type="binary-classification"), CLASSES.clamp(max=1)),
        (Task(type="multilabel-classification", num_classes=2), torch.stack([CLASSES, 1 - CLASSES], 1).clamp(0, 1)),
        (Task(type="regression", targets=2), torch.randn(6, 2)),
        (Task(type="token-classification", num_classes=3), CLASSES.repeat(5, 1).T),
        (Task(type="language-model", num_classes=3), CLASSES.repeat(5, 1).T),
    ],
    ids=lambda value: value.type if isinstance(value, Task) else "",
)
def test_its_outputs_have_the_shape_of_the_task_and_are_all_the_same(task: Task, labels: Tensor) -> None:
    outputs = Baseline(task, labels)(X)
    assert tuple(outputs.shape) == output_shape(task, 6, tuple(labels.shape))
    assert torch.equal(outputs, outputs[:1].expand_as(outputs))
    assert outputs.isfinite().all()


@pytest.mark.parametrize("output", ["logits", "probabilities", "log-probabilities"])
def test_it_says_how_often_each_class_is_right_in_the_words_of_the_task(output: str) -> None:
    (said,) = Baseline(Task(num_classes=3, output=output), CLASSES)(X[:1])  # type: ignore[arg-type]
    probabilities = {"logits": said.softmax(0), "probabilities": said, "log-probabilities": said.exp()}[output]
    torch.testing.assert_close(probabilities, torch.tensor([2, 3, 1]) / 6)


def test_it_predicts_the_mean_of_a_regression_and_the_odds_of_a_bit() -> None:
    targets = torch.tensor([[1.0, 10.0], [3.0, 30.0]])
    torch.testing.assert_close(Baseline(Task(type="regression", targets=2), targets)(X[:1])[0], torch.tensor([2.0, 20.0]))
    odds = Baseline(Task(type="binary-classification"), torch.tensor([1, 1, 1, 0]))(X[:1])
    torch.testing.assert_close(odds.sigmoid(), torch.tensor([[0.75]]))


def test_positions_that_do_not_count_say_nothing() -> None:
    labels = torch.tensor([[0, -100, -100], [0, 1, -100]])
    said = Baseline(Task(type="token-classification", num_classes=2), labels)(torch.zeros(2, 3, dtype=torch.int64))
    torch.testing.assert_close(said[0, 0].softmax(0), torch.tensor([2, 1]) / 3)


def test_a_class_that_never_occurs_has_a_finite_logit() -> None:
    assert Baseline(Task(num_classes=4), CLASSES)(X).isfinite().all()
