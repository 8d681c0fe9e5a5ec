"""The data set of a rubric: read without pickle, tied to its hash, and checked before any model sees it."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from fifomark.core.errors import ConfigError
from fifomark.families.family import did_you_mean
from fifomark.marking.rubric import FILE_NAME, data_path
from fifomark.marking.schema import Input, Rubric
from fifomark.marking.terms import SplitName


@dataclass(frozen=True)
class Split:
    """Some of the examples. `inputs`: for each argument of the model (n, *shape) as it gets it, float32 or int64; `labels` as the task has
    them (fifomark.marking.tasks), int64, or float32 of a regression."""

    name: SplitName
    inputs: tuple[NDArray[np.float32] | NDArray[np.int64], ...]
    labels: NDArray[np.int64] | NDArray[np.float32]


@dataclass(frozen=True)
class Data:
    """`splits`: "all" of it; or "public" and "private". `sha256` is that of the file."""

    splits: tuple[Split, ...]
    sha256: str


def load_data(folder: str | os.PathLike[str], rubric: Rubric) -> Data:
    """The data of the rubric in `folder`; ConfigError where the file is another one, or its arrays are not what the rubric says."""
    place = os.path.join(folder, FILE_NAME)
    path = data_path(folder, rubric)
    try:
        with open(path, "rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            if sha256 != rubric.data.sha256.lower():
                raise ConfigError(place, "data.sha256", f"does not match {path}", f"the file has {sha256}")
            file.seek(0)
            arrays = np.load(file, allow_pickle=False)
            if not isinstance(arrays, np.lib.npyio.NpzFile):
                raise ConfigError(place, "data.path", f"{path} is no .npz", "write it with numpy.savez_compressed")
            x = _array(arrays, "input", str(rubric.data.input), place)
            y = _array(arrays, "label", str(rubric.data.label), place)
    except (OSError, ValueError, BadZipFile) as e:
        raise ConfigError(place, "data.path", f"{path} cannot be read: {e}", "write it with numpy.savez_compressed, no objects") from e
    inputs, labels = _inputs(x, rubric.input, place), _labels(y, len(x), rubric.task.width, place)
    return Data((Split("all", (inputs,), labels),), sha256)


def _array(arrays: np.lib.npyio.NpzFile, key: str, name: str, place: str) -> NDArray[np.generic]:
    if name not in arrays:
        raise ConfigError(place, f"data.{key}", f"there is no array {name!r}", did_you_mean(name, list(arrays)))
    array: NDArray[np.generic] = arrays[name]
    if not array.ndim or not len(array):
        raise ConfigError(place, f"data.{key}", f"array {name!r} is empty")
    return array


def _inputs(x: NDArray[np.generic], wanted: Input, place: str) -> NDArray[np.float32] | NDArray[np.int64]:
    if _long_axes(x.shape[1:]) != _long_axes(wanted.shape):
        raise ConfigError(place, "input.shape", f"is {wanted.shape} where an example of the data is {x.shape[1:]}")
    if x.dtype.kind not in ("iu" if wanted.dtype == "int64" else "biuf"):
        raise ConfigError(place, "input.dtype", f"is {wanted.dtype} where the data is {x.dtype}")
    shaped = x.reshape(len(x), *wanted.shape)
    if wanted.dtype == "int64":
        return shaped.astype(np.int64)
    mean, std = (_along_first(numbers, wanted.shape) for numbers in (wanted.mean, wanted.std))
    inputs: NDArray[np.float32] = (shaped.astype(np.float32) * np.float32(wanted.scale) - mean) / std
    if not np.isfinite(inputs).all():
        raise ConfigError(place, "data.input", "holds NaN or Inf, or scale, mean and std make it so")
    return inputs


def _long_axes(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Without axes of length 1: images are stored as (8, 8) as often as (1, 8, 8)."""
    return tuple(length for length in shape if length != 1)


def _along_first(numbers: tuple[float, ...], shape: tuple[int, ...]) -> NDArray[np.float32]:
    return np.array(numbers, np.float32).reshape(-1, *(1,) * (len(shape) - 1))


def _labels(y: NDArray[np.generic], rows: int, classes: int, place: str) -> NDArray[np.int64]:
    if y.shape != (rows,):
        raise ConfigError(place, "data.label", f"has shape {y.shape}, expected ({rows},): one label for each example")
    if y.dtype.kind not in "iu":
        raise ConfigError(place, "data.label", f"holds {y.dtype}, expected whole numbers")
    low, high = int(y.min()), int(y.max())
    if low < 0 or high >= classes:
        hint = f"{classes} classes are labelled 0 to {classes - 1}"
        raise ConfigError(place, "data.label", f"holds labels from {low} to {high}", hint)
    return y.astype(np.int64)
