"""What knows nothing of its input: the mark that any model should beat."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fifomark.marking.schema import Task
from fifomark.marking.tasks import KINDS


class Baseline(nn.Module):
    """Gives the same outputs for every example: how often each class is right, or the mean of each target, in the examples' own labels.

    `labels` are as fifomark.marking.tasks has them. The outputs are what the task asks for: logits, probabilities or their logarithms.
    """

    def __init__(self, task: Task, labels: Tensor) -> None:
        super().__init__()
        self._per_token = KINDS[task.type].per_token
        self.register_buffer("answer", _answer(task, labels))

    def forward(self, *inputs: Tensor) -> Tensor:
        first, answer = inputs[0], self.get_buffer("answer")
        return answer.expand(len(first), *first.shape[1:2] if self._per_token else (), -1)


def _answer(task: Task, labels: Tensor) -> Tensor:
    """(width,)"""
    match KINDS[task.type].labels:
        case "numbers":
            return labels.reshape(len(labels), -1).double().mean(0).float()
        case "bits":
            return _said(task, labels.double().mean(0), bits=True)
        case "class" if task.width == 1:
            return _said(task, labels.double().mean().reshape(1), bits=True)
        case _:
            counted = labels[labels != task.ignore_label] if KINDS[task.type].per_token else labels
            shares = torch.bincount(counted.flatten(), minlength=task.width).double() / max(1, counted.numel())
            return _said(task, shares, bits=False)


def _said(task: Task, shares: Tensor, *, bits: bool) -> Tensor:
    """Probabilities as the task wants them said; none is so certain that its logarithm has no end."""
    shares = shares.clamp(1e-6, 1 - 1e-6)
    if not bits:
        shares = shares / shares.sum()
    if task.output == "probabilities":
        return shares.float()
    return (torch.logit(shares) if bits and task.output == "logits" else shares.log()).float()
