"""Labels as the task has them (fifomark.marking.tasks), each in its range. torchmetrics does not look: it scores labels of no class."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fifomark.marking.data.inputs import Raw, filled
from fifomark.marking.data.source import Array, BadData, Found, Values, first_text, first_true, nearest, numbers
from fifomark.marking.schema import Task
from fifomark.marking.tasks import KINDS

Labels = NDArray[np.int64] | NDArray[np.float32]


def given(here: Found, task: Task, examples: Raw) -> Labels:
    """The labels `here` of `examples`, int64, or (n, targets) float32 of a regression."""
    if len(here) != len(examples.values):
        problem = f"{here.title} has {len(here)} labels, expected {_shape_wanted(task, len(examples.values), ())}: one for each example"
        raise BadData("data.label", problem)
    if KINDS[task.type].labels == "numbers":
        return _targets(here, task)
    if _is_text(here.values):
        here = Found(here.source, here.names, _coded(here, task))
    values = numbers(here, "data.label")
    if KINDS[task.type].per_token:
        values = _per_token(here, task, examples)
    return _whole(here, _of_shape(here, values, task, _length(values, examples)), task)


def next_tokens(here: Found, examples: Raw, pad: int | None, task: Task) -> tuple[Raw, NDArray[np.int64]]:
    """Examples of T tokens, and for each position the token that follows, from examples of T + 1: ignore_label where none does.

    Where all sequences have one length, a run of `pad` at the end of one is no part of it.
    """
    values, lengths = examples
    assert lengths is not None
    if pad is not None and lengths.min() == lengths.max():
        real = values[:, ::-1] != pad
        lengths = np.where(real.any(axis=1), values.shape[1] - real.argmax(axis=1), 0)
    following = np.arange(1, values.shape[1])
    labels = np.where(following < lengths[:, None], values[:, 1:], task.ignore_label)
    return Raw(values[:, :-1]), _whole(here, labels, task, shift=1)


def _whole(here: Found, labels: Array, task: Task, shift: int = 0) -> NDArray[np.int64]:
    """In range, or ignored where a sequence's may be. `shift`: how many positions further the labels stand in the data."""
    kind = KINDS[task.type]
    bits = kind.labels == "bits" or task.type == "binary-classification"
    classes = 2 if bits else task.width
    if labels.dtype.kind not in "biuf":  # 1.0 is as good as 1, and what a table with a gap somewhere gives
        raise BadData("data.label", f"{here.title} holds {labels.dtype}, expected whole numbers")
    counted = labels != task.ignore_label if kind.per_token else np.ones(labels.shape, bool)
    if not counted.any():
        raise BadData("data.label", f"every label is {task.ignore_label}, which task.ignore_label leaves out")
    wrong = counted & ((labels < 0) | (labels >= classes))
    if labels.dtype.kind == "f":
        wrong |= labels != np.floor(labels)
    if wrong.any():
        index = first_true(wrong)
        spot = here.spot((*index[:-1], index[-1] + shift))
        problem = f"holds labels from {labels[counted].min()} to {labels[counted].max()}: {spot} is {labels[index]}"
        raise BadData("data.label", problem, f"{classes} classes are labelled 0 to {classes - 1}")
    return labels.astype(np.int64)


def _targets(here: Found, task: Task) -> NDArray[np.float32]:
    values = _of_shape(here, numbers(here, "data.label"), task, ())
    with np.errstate(over="ignore"):
        targets = values.astype(np.float32)
    if not np.isfinite(targets).all():
        index = first_true(~np.isfinite(targets))
        raise BadData("data.label", f"{here.spot(index)} is {values[index]}, expected a number that float32 has")
    return targets.reshape(len(targets), task.targets)


def _per_token(here: Found, task: Task, examples: Raw) -> Values:
    """As long as the examples, ignore_label behind each: in the data each has as many labels as tokens."""
    values, width = here.values, examples.values.shape[1]
    if isinstance(values, np.ndarray) and (values.ndim != 2 or values.shape[1] == width or examples.lengths is None):
        return values
    for row, labels in enumerate(values):
        tokens = width if examples.lengths is None else int(examples.lengths[row])
        if len(labels) != tokens:
            raise BadData("data.label", f"{here.spot((row,))} has {len(labels)} labels for {tokens} tokens")
        if labels.size and labels.dtype.kind not in "biu":
            raise BadData("data.label", f"{here.spot((row,))} holds {labels.dtype}, expected whole numbers")
    return filled(values, width, task.ignore_label)


def _of_shape(here: Found, values: Values, task: Task, length: tuple[int, ...]) -> Array:
    wanted = _shape_wanted(task, len(here), length)
    if isinstance(values, list):
        raise BadData("data.label", f"{here.title} has labels of different length, expected {wanted}")
    if values.shape != wanted and not (wanted[1:] == (1,) and values.shape == wanted[:1]):
        words = {"bits": "a 0 or 1 for each class", "class": "one label for each example", "numbers": "a number for each target"}
        word = "one label for each token" if KINDS[task.type].per_token else words[KINDS[task.type].labels]
        raise BadData("data.label", f"{here.title} has shape {values.shape}, expected {wanted}: {word}")
    return values


def _shape_wanted(task: Task, examples: int, length: tuple[int, ...]) -> tuple[int, ...]:
    kind = KINDS[task.type]
    if kind.per_token:
        return (examples, *length)
    return (examples,) if kind.labels == "class" else (examples, task.width)


def _length(values: Values, examples: Raw) -> tuple[int, ...]:
    """Of sequences: the first axis of an example, or another where the labels say so, for there are inputs with channels first."""
    axes = examples.values.shape[1:]
    return values.shape[1:2] if isinstance(values, np.ndarray) and values.shape[1:2] in [(axis,) for axis in axes] else axes[:1]


def _is_text(values: Values) -> bool:
    return any(array.dtype.kind == "U" for array in (values if isinstance(values, list) else [values]))


def _coded(here: Found, task: Task) -> Values:
    """Names of classes as their numbers."""
    kind = KINDS[task.type]
    if kind.labels != "class" or not task.class_names:
        hint = "say which class is which number: task.class_names" if kind.labels == "class" else ""
        index, text = first_text(here)
        raise BadData("data.label", f"{here.spot(index)} is {text!r}, expected a whole number", hint)
    values = here.values
    flat = np.concatenate(values) if isinstance(values, list) else values.ravel()
    names, places = np.unique(flat, return_inverse=True)
    codes = np.array([task.class_names.index(name) if name in task.class_names else -1 for name in names.tolist()])[places]
    if (codes < 0).any():
        name = str(flat[np.argmax(codes < 0)])
        row = next(row for row, value in enumerate(values) if name in np.ravel(value))
        spot = here.spot((row, *first_true(np.asarray(values[row]) == name)))
        raise BadData("data.label", f"{spot} is {name!r}, and no such class", nearest(name, task.class_names))
    if isinstance(values, list):
        return np.split(codes, np.cumsum([len(row) for row in values])[:-1])
    return codes.reshape(values.shape)
