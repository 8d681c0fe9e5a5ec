"""From a rubric to its splits; here, and only here, what is wrong with the data becomes a ConfigError."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fifomark import plugins
from fifomark.core.errors import ConfigError
from fifomark.marking.data import factory, inputs, labels
from fifomark.marking.data.arrays import Npz, Safetensors
from fifomark.marking.data.csv_table import CsvTable
from fifomark.marking.data.hashing import sha256_of
from fifomark.marking.data.inputs import Prepared, Raw
from fifomark.marking.data.json_lines import JsonLines
from fifomark.marking.data.labels import Labels
from fifomark.marking.data.parquet import Parquet
from fifomark.marking.data.pictures import Pictures
from fifomark.marking.data.roles import Roles, roles
from fifomark.marking.data.source import BadData, Found, Source, Values, found, nearest
from fifomark.marking.data.splits import parts
from fifomark.marking.python import check_callable
from fifomark.marking.rubric_hash import FILE_NAME
from fifomark.marking.schema import Argument, Rubric
from fifomark.marking.terms import SplitName

_BY_ENDING = {".npz": "npz", ".safetensors": "safetensors", ".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet"}
_FILES: Mapping[str, Callable[[Path], Source]] = {
    "npz": Npz,
    "safetensors": Safetensors,
    "csv": CsvTable,
    "jsonl": JsonLines,
    "parquet": Parquet,
}


@dataclass(frozen=True)
class Split:
    """Some of the examples. `inputs`: for each argument of the model (n, *shape) as it gets it, float32 or int64; `labels` as the task has
    them (fifomark.marking.tasks), int64, or (n, targets) float32 of a regression."""

    name: SplitName
    inputs: tuple[Prepared, ...]
    labels: Labels


@dataclass(frozen=True)
class Data:
    """`splits`: "all" of it; or "public" and "private". `sha256` is that of the file or folder."""

    splits: tuple[Split, ...]
    sha256: str


def load_data(folder: str | os.PathLike[str], rubric: Rubric) -> Data:
    """The data of the rubric in `folder`, by data.factory if there is one; ConfigError where it is not what the rubric says."""
    with _told(folder, rubric):
        sha256 = _hashed(folder, rubric)
        return Data(_splits(_opened(Path(folder), rubric), rubric), sha256)


def check_data(folder: str | os.PathLike[str], rubric: Rubric) -> None:
    """ConfigError where `load_data` would raise one, as far as can be said without running the Python beside the rubric."""
    if rubric.data.factory is None:
        load_data(folder, rubric)
        return
    with _told(folder, rubric):
        check_callable(folder, rubric.data.factory, os.path.join(folder, FILE_NAME), factory.KEY, plugins.DATASETS)
        _hashed(folder, rubric)


@contextmanager
def _told(folder: str | os.PathLike[str], rubric: Rubric) -> Iterator[None]:
    place = os.path.join(folder, FILE_NAME)
    try:
        yield
    except BadData as e:
        raise ConfigError(place, e.key, f"{rubric.data.path}: {e.problem}", e.hint) from e
    except MemoryError as e:
        raise ConfigError(place, "data.path", f"{rubric.data.path} does not fit into memory") from e
    except OSError as e:
        raise ConfigError(place, "data.path", f"{rubric.data.path} cannot be read: {e.strerror}") from e


def _hashed(folder: str | os.PathLike[str], rubric: Rubric) -> str:
    sha256 = sha256_of(Path(folder, rubric.data.path))
    if sha256 != rubric.data.sha256.lower():
        raise BadData("data.sha256", "does not match this data", f"the data has {sha256}")
    return sha256


def _opened(folder: Path, rubric: Rubric) -> Source:
    data = rubric.data
    path = folder / data.path
    if data.factory:
        return factory.Made(path, data.factory, data.seed, folder / FILE_NAME)
    if data.format == "pictures" or (data.format == "auto" and path.is_dir()):
        return Pictures(path, rubric)
    return open_file(path, data.format)


def open_file(path: Path, format: str = "auto") -> Source:
    """A file of arrays or a table, in the format that its name's ending says where `format` does not. BadData where it cannot be told."""
    if format == "auto":
        format = _BY_ENDING.get(path.suffix.lower(), "auto")
    if format not in _FILES:
        raise BadData("data.format", f"cannot be told from {path.suffix or 'a name without ending'!r}", nearest(path.suffix, _BY_ENDING))
    if path.is_dir():
        raise BadData("data.path", "is a folder", f"expected one file of {format}; a folder holds pictures")
    return _FILES[format](path)


def _splits(source: Source, rubric: Rubric) -> tuple[Split, ...]:
    role = roles(source, rubric)
    values = source.read([name for name in (*role.inputs, *role.labels, role.split) if name is not None])
    arguments, targets = _examples(source, role, values, rubric)
    marks = found(source, (role.split,), values, "data.split") if role.split else None
    del values  # what was read and reshaped is held by the arguments now, and goes with them
    specs = _arguments(rubric, len(arguments))
    return tuple(
        Split(
            name,
            tuple(
                inputs.prepared(raw.values if rows is None else raw.values[rows], wanted, key)
                for raw, (key, wanted) in zip(arguments, specs, strict=True)
            ),
            targets if rows is None else targets[rows],
        )
        for name, rows in parts(marks, targets, rubric.data)
    )


def _examples(source: Source, role: Roles, values: dict[str, Values], rubric: Rubric) -> tuple[list[Raw], Labels]:
    here = [found(source, names, values, "data.input") for names in role.arguments(source, values)]
    specs = _arguments(rubric, len(here))
    for other in here[1:]:
        if len(other) != len(here[0]):
            raise BadData("data.input", f"{other.title} has {len(other)} examples, {here[0].title} has {len(here[0])}")
    if role.labels:
        raws = [inputs.shaped(one, wanted, key) for one, (key, wanted) in zip(here, specs, strict=True)]
        return raws, labels.given(found(source, role.labels, values, "data.label"), rubric.task, raws[0])
    return _shifted(here, specs, rubric)


def _shifted(here: list[Found], specs: list[tuple[str, Argument]], rubric: Rubric) -> tuple[list[Raw], Labels]:
    """Of a language model without labels: the first argument's own next tokens, of which the data may hold one more than the model gets."""
    (key, wanted), *_ = specs
    if wanted.dtype != "int64" or len(wanted.shape) != 1:
        raise BadData(
            "data.label", "is missing", "the next tokens of the input can stand in for it where its dtype is int64 and its shape [T]"
        )
    first, next_tokens = labels.next_tokens(here[0], inputs.tokens(here[0], wanted, key, wanted.shape[0] + 1), wanted.pad, rubric.task)
    rest = [inputs.shaped(one, wanted, key) for one, (key, wanted) in zip(here[1:], specs[1:], strict=True)]
    return [first, *rest], next_tokens


def _arguments(rubric: Rubric, count: int) -> list[tuple[str, Argument]]:
    """What the rubric says of each argument, with the key it says it under."""
    more = rubric.input.more
    if more and len(more) != count - 1:
        raise BadData(
            "input.more", f"describes {len(more)} arguments after the first where the data has {count - 1}", "leave it out: all are alike"
        )
    return [("input", rubric.input), *((f"input.more[{i}]", more[i]) if more else ("input", rubric.input) for i in range(count - 1))]
