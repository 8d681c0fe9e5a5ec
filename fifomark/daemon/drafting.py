"""A first rubric for a data file: what the data and a reference model tell is filled in, what they cannot tell is marked for a look."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from itertools import chain, pairwise
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fifomark.core.errors import UsageError
from fifomark.core.inspection import Inspection
from fifomark.core.weights import TensorSpec
from fifomark.families import registry
from fifomark.families.family import REQUIRED, Fact, Match, NotAllowed, did_you_mean
from fifomark.families.layers import Kind, Leaf
from fifomark.families.resnet import written_out
from fifomark.marking.data.hashing import sha256_of
from fifomark.marking.data.loading import open_file
from fifomark.marking.data.source import BadData, Source, is_flat, nearest
from fifomark.marking.rubric import FILE_NAME
from fifomark.sanitizer.sanitizer import Sanitizer

_INPUTS, _LABELS = ("x", "x_test", "inputs", "input", "images", "data"), ("y", "y_test", "labels", "label", "targets", "target")
_LOOK = "# look: "
_PER_CLASS = 5  # examples: whole numbers of which hardly two are alike are amounts
_STRIDED = {2: "maxpool2d", 1: "maxpool1d", 3: "maxpool3d"}


class Draft(NamedTuple):
    """`questions` are the lines of the rubric that are guesses."""

    path: Path
    questions: tuple[str, ...]


class Question(NamedTuple):
    """A fact of the reference model that its file cannot tell: its name in the rubric, what it means, a guess."""

    name: str
    fact: Fact
    guess: bool | int | float | str

    def answer(self, text: str) -> object:
        """What was typed, as a value of the fact. UsageError where it is none."""
        value: object = text
        if isinstance(self.guess, bool):
            value = {"true": True, "yes": True, "y": True, "false": False, "no": False, "n": False}.get(text.lower(), text)
        elif isinstance(self.guess, (int, float)):
            with suppress(ValueError):
                value = float(text) if isinstance(self.guess, float) else int(text)
        try:
            if self.fact.allowed and value not in self.fact.allowed:
                raise NotAllowed("", "is not allowed", did_you_mean(value, self.fact.allowed))
            return self.fact.parse(value)
        except NotAllowed as e:
            raise UsageError(f"{text}: {e}" + (f" ({e.hint})" if e.hint else "")) from e


class Columns(NamedTuple):
    """What the data has, and which of it inputs and labels seem to be; None where nothing says so."""

    names: tuple[str, ...]
    noun: str
    input: str | None
    label: str | None


def columns(data: Path) -> Columns:
    """UsageError where the data cannot be read."""
    source = _opened(data)
    there = tuple(source.names)
    label = next((name for name in _LABELS if name in there), None)
    return Columns(there, source.noun, next((name for name in _INPUTS if name in there), None), label)


def check_free(folder: Path) -> None:
    """UsageError where there is a rubric already."""
    if os.path.lexists(folder / FILE_NAME):
        raise UsageError(f"{folder / FILE_NAME}: is there already; choose another folder")


Decide = Callable[[Question], object]


def draft(
    folder: Path, data: Path, model: Path | None, *, input: str | None = None, label: str | None = None, decide: Decide | None = None
) -> Draft:
    """Make `folder` with a copy of the data and a rubric for it; `decide` answers what only a person knows, where there is one.

    UsageError where there is a rubric already, where the data cannot be read or its labels not be found, or where the model is refused.
    """
    check_free(folder)
    target = folder / FILE_NAME
    source = _opened(data)
    try:
        names = _names(source, input, label)
        values = source.read([*names.inputs, names.label])
    except BadData as e:
        raise _unreadable(data, e) from e
    for name in (*names.inputs, names.label):
        _of_one_shape(data, name, values[name])
    seen = _inspected(model) if model is not None else None
    # Columns of single numbers stand side by side.
    shape = (len(names.inputs),) if is_flat(values[names.inputs[0]]) else tuple(np.shape(values[names.inputs[0]])[1:])
    kept = folder / "data" / data.name
    kept.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(data, kept)
    task = _task(np.asarray(values[names.label]), seen)
    parts = [
        _about(folder),
        task,
        _model(seen, shape, 'type = "token-classification"' in task, decide),
        _input(np.asarray(values[names.inputs[0]]), shape, seen),
        _data(kept, folder, names),
    ]
    text = "\n\n".join("\n".join(lines) for lines in parts) + "\n"
    target.write_text(text, encoding="utf-8")
    lines = text.splitlines()
    return Draft(
        target,
        tuple(f"{below.split(' = ')[0].strip()}: {line.removeprefix(_LOOK)}" for line, below in pairwise(lines) if line.startswith(_LOOK)),
    )


def _opened(data: Path) -> Source:
    try:
        return open_file(data)
    except BadData as e:
        raise _unreadable(data, e) from e


def _unreadable(data: Path, error: BadData) -> UsageError:
    return UsageError(f"{data}: {error.problem}" + (f" ({error.hint})" if error.hint else ""))


class _Names(NamedTuple):
    """`every`: the inputs are all columns but the label, and need not be named."""

    inputs: tuple[str, ...]
    label: str
    every: bool


def _names(source: Source, input: str | None, label: str | None) -> _Names:
    there = tuple(source.names)
    for wanted, option in ((input, "--input"), (label, "--label")):
        if wanted is not None and wanted not in there:
            raise BadData("", f"there is no {source.noun} {wanted!r} for {option}", nearest(wanted, there))
    target = label or next((name for name in _LABELS if name in there), None)
    if target is None:
        raise BadData("", f"which {source.noun} holds the labels?", f"say it with --label; known here: {', '.join(there[:20])}")
    chosen = input or next((name for name in _INPUTS if name in there), None)
    if chosen is None and source.noun == "column":
        return _Names(tuple(name for name in there if name != target), target, every=True)
    if chosen is None:
        raise BadData("", f"which {source.noun} holds the inputs?", f"say it with --input; known here: {', '.join(there[:20])}")
    return _Names((chosen,), target, every=False)


def _of_one_shape(data: Path, name: str, values: Any) -> None:
    """UsageError where examples have different lengths."""
    try:
        np.shape(values)
    except ValueError as e:
        what = f"{data}: {name}: the examples have different lengths, and a draft is for examples of one shape"
        raise UsageError(f"{what}; write the rubric by hand, with input.pad (docs/data.md)") from e


def _inspected(model: Path) -> Inspection:
    with Sanitizer() as sanitizer:
        seen = sanitizer.inspect(model)
    if seen.verdict.refuses or seen.weights is None:
        raise UsageError(f"{model}: is {seen.verdict}: {seen.findings[0].message if seen.findings else 'it has no weights'}")
    return seen


# The tables of the rubric, a line each


def _about(folder: Path) -> list[str]:
    id = re.sub(r"[^a-z0-9-]+", "-", folder.resolve().name.lower()).strip("-") or "rubric"
    return [
        "[rubric]",
        'schema  = "fifomark.rubric/1"',
        f'id      = "{id}"',
        'version = "1"                   # change it with anything that can move a mark',
    ]


def _task(labels: np.ndarray[Any, Any], seen: Inspection | None) -> list[str]:
    if labels.dtype.kind not in "biuf":
        raise UsageError(f"the labels are {labels.dtype}, expected numbers")
    whole = bool((labels == np.floor(labels)).all())
    if labels.ndim == 1 and whole and labels.min() >= 0 and _PER_CLASS * len(np.unique(labels)) <= len(labels):
        classes = int(labels.max()) + 1
        if classes == 2 and _width(seen) == 1:
            return ["[task]", 'type = "binary-classification"']
        return ["[task]", f"num_classes = {max(2, classes)}"]
    if labels.ndim == 2 and set(np.unique(labels)) <= {0, 1}:
        return ["[task]", 'type = "multilabel-classification"', f"num_classes = {labels.shape[1]}"]
    if labels.ndim == 2 and labels.dtype.kind in "iu":
        return ["[task]", 'type = "token-classification"', f"num_classes = {int(labels.max()) + 1}"]
    return ["[task]", 'type = "regression"', *([f"targets = {labels.shape[1]}"] if labels.ndim == 2 and labels.shape[1] > 1 else [])]


def _width(seen: Inspection | None) -> int | None:
    """How many numbers the last layer of the reference model gives."""
    shapes = [tensor.shape for tensor in seen.weights.tensors if len(tensor.shape) >= 2] if seen and seen.weights else []
    return shapes[-1][0] if shapes else None


def _model(seen: Inspection | None, shape: tuple[int, ...], per_token: bool, decide: Decide | None) -> list[str]:
    specs = [TensorSpec(name=t.name, dtype=t.dtype, shape=t.shape) for t in seen.weights.tensors] if seen and seen.weights else []
    match = registry.match(specs) if specs else None
    if match is None:
        why = "no kind of network fits the reference model" if specs else "without a reference model nothing is known"
        return [
            "[model]",
            f'{_LOOK}{why}; your own class would be factory = "models:Net", in models.py beside this file',
            'families = ["mlp"]',
        ]
    lines = ["[model]", f'families = ["{match.family}"]', "", f"[model.{match.family}]"]
    facts = registry.family(match.family).facts
    asked = {name: fact for name, fact in facts.items() if fact.matters(match)}
    guesses = {name: _guess(name, fact.default, match, shape) for name, fact in asked.items()}
    if per_token and "pooling" in guesses:
        guesses["pooling"] = "none"
    told = [_fact(name, fact, guesses[name], decide) for name, fact in asked.items()]
    return [*lines, *chain.from_iterable(told)] if told else lines[:2]


def _fact(name: str, fact: Fact, guess: object, decide: Decide | None) -> list[str]:
    """The lines of one fact: decided, or guessed and to be looked at."""
    if decide is not None and isinstance(guess, (bool, int, float, str)) and name != "layers":
        return [f"{name} = {_toml(decide(Question(name, fact, guess)))}"]
    return [f"{_LOOK}{fact.meaning}", f"{name} = {_toml(guess)}"]


def _guess(name: str, default: object, match: Match, shape: tuple[int, ...]) -> object:
    if default is not REQUIRED:
        return default
    if name == "layers":
        return _layers(match, shape) if isinstance(written_out(match.layers), Leaf) else "resnet"
    width = next((size for leaf in match.layers.of(Kind.ATTENTION) for size in leaf.shape[-1:]), 4)
    return next(heads for heads in (4, 8, 2, 1) if width % heads == 0)


def _layers(match: Match, shape: tuple[int, ...]) -> list[dict[str, dict[str, int]]]:
    """Each convolution keeps the size, and the first ones halve it as often as the first linear layer says."""
    made: list[dict[str, dict[str, int]]] = []
    pools = _halvings(match, shape)
    flat = False
    for leaf in match.layers.leaves:
        dims = len(leaf.shape) - 2
        if leaf.kind is Kind.CONV:
            made += [{f"conv{dims}d": {"kernel": leaf.shape[-1], "padding": leaf.shape[-1] // 2}}, {"relu": {}}]
            if pools > 0:
                made.append({_STRIDED[dims]: {"kernel": 2}})
                pools -= 1
        elif leaf.kind is Kind.BATCHNORM and made:
            behind = 2 if any(name in made[-1] for name in _STRIDED.values()) else 1
            made.insert(len(made) - behind, {f"batchnorm{len(match.layers.of(Kind.CONV)[-1].shape) - 2}d": {}})
        elif leaf.kind in (Kind.LINEAR, Kind.MATRIX):
            made += [{"relu": {}}, {"linear": {}}] if flat else [{"flatten": {}}, {"linear": {}}]
            flat = True
    return made


def _halvings(match: Match, shape: tuple[int, ...]) -> int:
    """How often the size of an example is halved before the first linear layer; 0 where no number of times fits."""
    convolutions = match.layers.of(Kind.CONV)
    first = next((leaf for leaf in match.layers.leaves if leaf.kind in (Kind.LINEAR, Kind.MATRIX)), None)
    if first is None:
        return 0
    channels, sizes = convolutions[-1].shape[0], shape[-(len(convolutions[-1].shape) - 2) :]
    fitting = (times for times in range(len(convolutions) + 1) if channels * prod(n >> times for n in sizes) == first.shape[1])
    return next(fitting, 0)


def _input(values: np.ndarray[Any, Any], shape: tuple[int, ...], seen: Inspection | None) -> list[str]:
    if shape and len(shape) == 2 and seen and seen.family and seen.family.name == "cnn":
        shape = (1, *shape)  # grey pictures are stored without an axis for their one colour
    lines = ["[input]", f"shape = {_toml(shape)}"]
    if values.dtype.kind in "iu" and _embeds(seen, shape):
        return [*lines, 'dtype = "int64"']
    if values.dtype == np.uint8:
        lines += [f"{_LOOK}is this how it was in training? the values are {values.min()} to {values.max()}", f"scale = {1 / 255!r}"]
    return lines


def _embeds(seen: Inspection | None, shape: tuple[int, ...]) -> bool:
    """Whether the reference model begins with an embedding: a matrix that does not work on numbers of such examples."""
    if not seen or not seen.weights or not seen.family or seen.family.name not in ("rnn", "transformer"):
        return False
    matrices = [tensor for tensor in seen.weights.tensors if len(tensor.shape) == 2]
    return bool(matrices) and matrices[0].shape[1] != shape[-1] and not matrices[0].name.endswith("in_proj_weight")


def _data(kept: Path, folder: Path, names: _Names) -> list[str]:
    inputs = [] if names.every or names.inputs == ("x",) else [f"input  = {_toml(names.inputs[0])}"]
    label = [] if names.label == "y" else [f"label  = {_toml(names.label)}"]
    path = kept.relative_to(folder).as_posix()
    return [
        "[data]",
        f"path   = {_toml(path)}",
        f'sha256 = "{sha256_of(kept)}"',
        *inputs,
        *label,
        "# public = 0.3                  # the share of the examples whose marks submitters see at once",
    ]


def _toml(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case str():
            return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
        case Mapping():
            return "{ " + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + " }" if value else "{}"
        case list() | tuple():
            return f"[{', '.join(map(_toml, value))}]"
        case _:
            return str(value)
