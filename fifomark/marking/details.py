"""What stands behind a mark, for the operator: which classes are taken for which, and how sure a model is when it is right."""

from __future__ import annotations

import torch
from torch import Tensor

from fifomark.core.outcome import Details, Reliability
from fifomark.marking.schema import Task
from fifomark.marking.terms import SplitName

BINS = 10  # of confidence, equally wide (C. Guo et al., On Calibration of Modern Neural Networks, 2017)
MAX_CLASSES = 100  # beyond which nobody reads a matrix


class Tally:
    """Fed with batches of probabilities; gives sums over a split, and nothing of a single example."""

    def __init__(self, classes: int) -> None:
        self._classes = classes
        self._seen: list[tuple[Tensor, Tensor, Tensor]] = []  # of each batch: how sure it was, what it said, what is right

    def update(self, probabilities: Tensor, labels: Tensor) -> None:
        """`probabilities` (n, classes), or (n,) of class 1; `labels` (n,)."""
        both = torch.stack([1 - probabilities, probabilities], dim=1) if probabilities.ndim == 1 else probabilities
        confidence, said = both.max(dim=1)
        self._seen.append((confidence, said, labels))

    def details(self, split: SplitName) -> Details:
        sure, said, labels = (torch.cat(parts) for parts in zip(*self._seen, strict=True))
        cells = torch.bincount(labels * self._classes + said, minlength=self._classes**2).reshape(self._classes, -1).tolist()
        bins = (sure * BINS).long().clamp(0, BINS - 1)
        counts, confidence, right = (
            torch.bincount(bins, weights.double(), BINS).tolist() for weights in (torch.ones_like(sure), sure, said == labels)
        )
        return Details(
            split=split,
            confusion=tuple(map(tuple, cells)),
            calibration=tuple(
                Reliability(n=int(n), confidence=c / n if n else None, accuracy=r / n if n else None)
                for n, c, r in zip(counts, confidence, right, strict=True)
            ),
        )


def tally_of(task: Task) -> Tally | None:
    """None where a task has no classes, or too many."""
    if task.type == "binary-classification":
        return Tally(2)
    if task.type in ("multiclass-classification", "token-classification") and task.width <= MAX_CLASSES:
        return Tally(task.width)
    return None
