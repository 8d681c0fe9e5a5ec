"""A folder of pictures, one folder a class, through Pillow: class/name.png, of any depth below the class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from fifomark.marking.data.hashing import files_of
from fifomark.marking.data.source import EXTRA, Array, BadData, Values, nearest
from fifomark.marking.schema import Rubric

_MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # by the number of channels
_ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff")


class Pictures:
    """Arrays x and y. Channels first, 0 to 255, as large as input.shape says (bilinear; nothing is cut off); classes in the order of
    task.class_names, or else of their folders' names."""

    noun: Literal["array"] = "array"
    names = ("x", "y")

    def __init__(self, path: Path, rubric: Rubric) -> None:
        if not path.is_dir():
            raise BadData("data.path", "is no folder", "pictures lie in one folder a class")
        if rubric.task.type not in ("multiclass-classification", "binary-classification"):
            raise BadData("data.format", f"is pictures, which have one class each, but the task is {rubric.task.type}", "use data.factory")
        self._path, self._shape = path, rubric.input.shape
        classes = _classes(path, rubric)
        self._files = [name for name in files_of(path) if "/" in name]
        self._labels = np.array([classes.index(name.split("/")[0]) for name in self._files], np.int64)

    def read(self, names: Sequence[str]) -> dict[str, Values]:
        return {name: self._pictures() if name == "x" else self._labels for name in names}

    def at(self, name: str, row: int) -> str:
        return self._files[row]

    def _pictures(self) -> Array:
        try:
            from PIL import Image
        except ImportError as e:
            raise BadData("data.format", "needs the library Pillow, which is not installed", EXTRA) from e
        channels, height, width = (1, *self._shape)[-3:] if len(self._shape) in (2, 3) else (0, 0, 0)
        if channels not in _MODES:
            hint = "give [channels, height, width] with 1, 3 or 4 channels, or [height, width]"
            raise BadData("input.shape", f"is {list(self._shape)}, expected that of a picture", hint)
        pixels = np.empty((len(self._files), channels, height, width), np.uint8)  # four times smaller than what the model gets
        for row, name in enumerate(self._files):
            try:
                with Image.open(self._path / name) as picture:
                    pixels[row] = _pixels(picture, name, _MODES[channels], (width, height))
            except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as e:
                raise BadData("data.path", f"{name} cannot be read as a picture: {e}") from e
        return pixels


def _pixels(picture: Any, name: str, mode: str, size: tuple[int, int]) -> Array:
    """As torchvision's ImageFolder, Resize and PILToTensor give them. Pillow would cut 16 bits off at 255 without a word."""
    if picture.mode not in ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "LAB"):
        raise BadData("data.path", f"{name} has pixels of kind {picture.mode}, not of 8 bits", "use another format of data, such as npz")
    picture = picture.convert(mode)
    if picture.size != size:
        picture = picture.resize(size, resample=2)  # bilinear
    array = np.asarray(picture)
    return array[None] if array.ndim == 2 else np.moveaxis(array, -1, 0)


def _classes(path: Path, rubric: Rubric) -> list[str]:
    files = files_of(path)
    for name in files:
        if "/" not in name and name.lower().endswith(_ENDINGS):
            raise BadData("data.path", f"{name} lies in no class folder")
    folders = sorted({name.split("/")[0] for name in files if "/" in name})
    if names := rubric.task.class_names:
        for folder in folders:
            if folder not in names:
                raise BadData("task.class_names", f"there is a folder {folder!r}, and no such class", nearest(folder, names))
        for name in names:
            if name not in folders:
                raise BadData("task.class_names", f"there are no pictures of class {name!r}", nearest(name, folders))
        return list(names)
    classes = 2 if rubric.task.type == "binary-classification" else rubric.task.width
    if len(folders) != classes:
        hint = f"found {', '.join(folders[:12])}" if folders else "pictures lie in one folder a class"
        raise BadData("task.num_classes", f"is {classes} where there are {len(folders)} folders with pictures", hint)
    return folders
