"""Reading a rubric: one TOML file in a folder, with its data and its (trusted) Python. No torch here: the daemon reads it at start."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from fifomark.core.decode import convert, read_toml
from fifomark.core.errors import ConfigError, DeclarationMissing
from fifomark.families import registry
from fifomark.families.family import did_you_mean, settle
from fifomark.marking.metric_names import BUILT_IN, TORCHMETRICS
from fifomark.marking.schema import Rubric
from fifomark.marking.tasks import KINDS
from fifomark.marking.term_checks import Problem, check_terms, twice

__all__ = ["FILE_NAME", "Rubric", "data_path", "load_rubric", "rubric_sha256"]

FILE_NAME = "rubric.toml"


def load_rubric(folder: str | os.PathLike[str]) -> Rubric:
    """The rubric in `folder`, its parts checked against each other and its data against its hash.

    ConfigError names the file, the key, what was found and what was meant.
    """
    path = Path(folder, FILE_NAME)
    rubric = _completed(convert(_with_declared(read_toml(path, dict[str, Any])), Rubric, path))
    for check in (_check_task, _check_owner, _check_families, _check_input, _check_metrics, check_terms, _check_data):
        for key, problem, hint in check(rubric, path):
            raise ConfigError(path, key, problem, hint)
    return rubric


def rubric_sha256(folder: str | os.PathLike[str]) -> str:
    """Over rubric.toml and the Python beside it, names and bytes: what can move a mark, besides the data, whose hash the file holds."""
    digest = hashlib.sha256()
    for path in (Path(folder, FILE_NAME), *sorted(Path(folder).glob("*.py"))):
        body = path.read_bytes()
        digest.update(f"{path.name}\0{len(body)}\0".encode() + body)
    return digest.hexdigest()


def data_path(folder: str | os.PathLike[str], rubric: Rubric) -> Path:
    """Where the data of the rubric in `folder` is."""
    return Path(folder, rubric.data.path)


def _with_declared(table: dict[str, Any]) -> dict[str, Any]:
    """[model.cnn] and the like gathered under one key: families come by plugins too, so their names are data, not fields."""
    model = table.get("model")
    if not isinstance(model, dict):
        return table
    facts = {key: value for key, value in model.items() if isinstance(value, dict)}
    rest = {key: value for key, value in model.items() if key not in facts}
    return {**table, "model": {**rest, "declared": facts}}


def _completed(rubric: Rubric) -> Rubric:
    """With what is usual for its task where it says nothing of metrics or criteria."""
    kind = KINDS[rubric.task.type]
    if not rubric.metrics:
        rubric = replace(rubric, metrics=(kind.metric,))
    if not rubric.criteria and kind.criterion is not None and any(metric.id == kind.criterion.metric for metric in rubric.metrics):
        rubric = replace(rubric, criteria=(kind.criterion,))
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


def _check_families(rubric: Rubric, path: Path) -> Iterator[Problem]:
    known = tuple(registry.FAMILIES)
    for family in rubric.model.families:
        if family not in known:
            yield "model.families", f"{family!r} is no family", did_you_mean(family, known)
    for family in rubric.model.declared:
        if family not in rubric.model.families:
            yield f"model.{family}", "declares facts of a family that is not in model.families", did_you_mean(family, rubric.model.families)
    for family in rubric.model.families:
        try:
            settle(registry.family(family), rubric.model.declared.get(family, {}), path)
        except DeclarationMissing as e:
            yield f"model.{family}", f"does not declare {', '.join(e.missing)}", "a file of weights cannot tell it"
        except ConfigError as e:
            yield f"model.{family}.{e.key}", e.problem, e.hint


def _check_input(rubric: Rubric, _: Path) -> Iterator[Problem]:
    given = rubric.input
    for key, values in (("mean", given.mean), ("std", given.std)):
        if len(values) not in (1, given.shape[0]):
            yield f"input.{key}", f"has {len(values)} numbers", f"give one, or {given.shape[0]} (one for each along the first axis)"
    if given.dtype == "int64" and (given.scale, given.mean, given.std) != (1.0, (0.0,), (1.0,)):
        yield "input.dtype", "int64 input cannot be scaled or normalised", "leave scale, mean and std out, or take float32"


def _check_metrics(rubric: Rubric, _: Path) -> Iterator[Problem]:
    known = (*TORCHMETRICS[rubric.task.type], *BUILT_IN)
    ids = [metric.id for metric in rubric.metrics]
    for id in twice(ids):
        yield "metric", f"two metrics are called {id!r}", "give each its own id"
    for metric in rubric.metrics:
        if metric.kind not in known:
            yield f"metric.{metric.id}.kind", f"{metric.kind!r} is no metric for {rubric.task.type}", did_you_mean(metric.kind, known)
        if metric.kind in BUILT_IN and metric.args:
            yield f"metric.{metric.id}.args", f"{metric.kind} takes no arguments", ""


def _check_data(rubric: Rubric, path: Path) -> Iterator[Problem]:
    data = data_path(path.parent, rubric)
    try:
        with open(data, "rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as e:
        yield "data.path", f"{data} cannot be read: {e.strerror}", "the path is relative to the rubric's folder"
    else:
        if not rubric.data.sha256:
            yield "data.sha256", "is missing", f'put sha256 = "{found}" there, so that marks stay tied to this data'
        elif found != rubric.data.sha256.lower():
            yield "data.sha256", f"does not match {data}", f"the file has {found}; restore it, or change hash and version together"
