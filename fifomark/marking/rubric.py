"""Reading a rubric: one TOML file in a folder, with its data and its (trusted) Python. No torch here: the daemon reads it at start."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from fifomark import plugins
from fifomark.core.decode import convert, read_toml
from fifomark.core.errors import ConfigError
from fifomark.families.family import did_you_mean
from fifomark.marking.data.hashing import sha256_of
from fifomark.marking.metric_names import BUILT_IN, TORCHMETRICS, more_is_better
from fifomark.marking.model_rules import check_model
from fifomark.marking.python import check_callable
from fifomark.marking.rubric_hash import FILE_NAME, rubric_sha256
from fifomark.marking.schema import Rubric, Task
from fifomark.marking.tasks import KINDS
from fifomark.marking.term_checks import Problem, check_terms, twice

_NTH = re.compile(r"(?P<list>metric|criterion)\[(?P<n>\d+)\](?P<rest>.*)", re.DOTALL)

__all__ = ["FILE_NAME", "Rubric", "load_rubric", "rubric_sha256"]


def load_rubric(folder: str | os.PathLike[str]) -> Rubric:
    """The rubric in `folder`, its parts checked against each other and its data against its hash.

    ConfigError names the file, the key, what was found and what was meant.
    """
    path = Path(folder, FILE_NAME)
    table = read_toml(path, dict[str, Any])
    try:
        rubric = _completed(convert(_with_declared(table), Rubric, path))
    except ConfigError as e:
        raise ConfigError(path, _by_id(e.key, table), e.problem, e.hint) from e.__cause__
    for check in (_check_task, _check_owner, check_model, _check_input, _check_metrics, check_terms, _check_data):
        for key, problem, hint in check(rubric, path):
            raise ConfigError(path, key, problem, hint)
    return rubric


def _with_declared(table: dict[str, Any]) -> dict[str, Any]:
    """[model.cnn] and the like gathered under one key: families come by plugins too, so their names are data, not fields."""
    model = table.get("model")
    if not isinstance(model, dict):
        return table
    facts = {key: value for key, value in model.items() if isinstance(value, dict) and key != "args"}
    rest = {key: value for key, value in model.items() if key not in facts}
    return {**table, "model": {**rest, "declared": facts}}


def _by_id(key: str, table: dict[str, Any]) -> str:
    """criterion[0].points as criterion.accuracy.points, which is what it is called wherever else something is wrong with it."""
    place = _NTH.match(key)
    found = table[place["list"]][int(place["n"])] if place else None
    id = found.get("id") if isinstance(found, dict) else None
    return f"{place['list']}.{id}{place['rest']}" if place and isinstance(id, str) and id else key


def _completed(rubric: Rubric) -> Rubric:
    """With what is usual for its task where it says nothing of metrics or criteria."""
    kind = KINDS[rubric.task.type]
    if not rubric.metrics:
        rubric = replace(rubric, metrics=(kind.metric,))
    if not rubric.criteria and kind.criterion is not None:
        fits = any(metric.id == kind.criterion.metric and more_is_better(metric) is not False for metric in rubric.metrics)
        rubric = replace(rubric, criteria=(kind.criterion,)) if fits else rubric
    return rubric


def _check_task(rubric: Rubric, _: Path) -> Iterator[Problem]:
    task = rubric.task
    names, wanted = len(task.class_names), 2 if task.type == "binary-classification" else task.num_classes
    if task.type not in ("binary-classification", "regression") and task.num_classes is None:
        yield "task.num_classes", "is missing", f"{task.type} needs it"
    if names and names != wanted:
        yield "task.class_names", f"names {names} classes where num_classes is {wanted}", "give one name a class, or none"


def _check_owner(rubric: Rubric, _: Path) -> Iterator[Problem]:
    pattern = rubric.submission.owner_from
    if pattern is None:
        return
    try:
        groups = re.compile(pattern).groupindex
    except re.error as e:
        yield "submission.owner_from", f"is no regular expression: {e}", ""
    else:
        if "owner" not in groups:
            yield "submission.owner_from", "has no group named owner", "mark the owner's part: (?P<owner>[a-z]+)"


def _check_input(rubric: Rubric, _: Path) -> Iterator[Problem]:
    first = ("input", rubric.input)
    for key, given in (first, *((f"input.more[{i}]", argument) for i, argument in enumerate(rubric.input.more))):
        means, spreads = (values if isinstance(values, tuple) else (values,) for values in (given.mean, given.std))
        for name, values in (("mean", means), ("std", spreads)):
            if len(values) not in (1, given.shape[0]):
                yield f"{key}.{name}", f"has {len(values)} numbers", f"give one, or {given.shape[0]} (one for each along the first axis)"
        if given.dtype == "int64" and (given.scale, means, spreads) != (1.0, (0.0,), (1.0,)):
            yield f"{key}.dtype", "int64 input cannot be scaled or normalised", "leave scale, mean and std out, or take float32"
        if given.pad is not None and (given.dtype != "int64" or len(given.shape) != 1):
            yield (
                f"{key}.pad",
                "fills up sequences of whole numbers only",
                "give dtype = 'int64' and a shape of one length, or leave pad out",
            )


def _check_metrics(rubric: Rubric, path: Path) -> Iterator[Problem]:
    known = (*TORCHMETRICS[rubric.task.type], *BUILT_IN)
    ids = [metric.id for metric in rubric.metrics]
    for id in twice(ids):
        yield "metric", f"two metrics are called {id!r}", "give each its own id"
    for metric in rubric.metrics:
        if ":" in metric.kind:
            check_callable(path.parent, metric.kind, path, f"metric.{metric.id}.kind", plugins.METRICS)
        elif metric.kind not in known:
            yield f"metric.{metric.id}.kind", f"{metric.kind!r} is no metric for {rubric.task.type}", did_you_mean(metric.kind, known)
        for name, size in _sizes(rubric.task).items():
            if ":" not in metric.kind and metric.args.get(name, size) != size:
                yield (
                    f"metric.{metric.id}.args.{name}",
                    f"is {metric.args[name]}, but the task has {size}",
                    "leave it out: the task says it",
                )
        if metric.kind in BUILT_IN and metric.args:
            yield f"metric.{metric.id}.args", f"{metric.kind} takes no arguments", ""
        if metric.interval == "bootstrap" and (metric.kind in BUILT_IN or rubric.task.type == "language-model"):
            why = "measures no examples" if metric.kind in BUILT_IN else "keeps no outputs: they are too large"
            yield f"metric.{metric.id}.interval", f"cannot be had by the bootstrap: {metric.kind} {why}", 'leave it out, or say "none"'


def _sizes(task: Task) -> dict[str, int]:
    """What torchmetrics' classes are told of the task, and what nobody may tell them otherwise."""
    if task.num_classes is None:
        return {"num_outputs": task.targets}
    return {"num_classes": task.num_classes, "num_labels": task.num_classes}


def _check_data(rubric: Rubric, path: Path) -> Iterator[Problem]:
    data = rubric.data
    if data.public is not None and data.split is not None:
        yield "data.public", "and split both say what is public", "leave one of them out"
    if data.factory and (data.split is not None or data.format != "auto"):
        yield "data.factory", "gives (input, label), so there is no split to name and no format", "leave them out; public draws a share"
    file = path.parent / data.path
    try:
        found = sha256_of(file)
    except OSError as e:
        yield "data.path", f"{file} cannot be read: {e.strerror}", "the path is relative to the rubric's folder"
    else:
        if not data.sha256:
            yield "data.sha256", "is missing", f'put sha256 = "{found}" there, so that marks stay tied to this data'
        elif found != data.sha256.lower():
            yield "data.sha256", f"does not match {file}", f"the data has {found}; restore it, or change hash and version together"
