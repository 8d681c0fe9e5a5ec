"""Which names of a source are the inputs, the labels, and the split: as the rubric says, or where it says nothing, as is usual."""

from __future__ import annotations

from typing import NamedTuple

from fifomark.marking.data.source import BadData, Source, Values, is_flat, nearest
from fifomark.marking.schema import DataFile, Rubric


class Roles(NamedTuple):
    """`labels` is empty where they are the inputs' own next tokens; `every`: the inputs are all that is left, for nobody named them."""

    inputs: tuple[str, ...]
    labels: tuple[str, ...]
    split: str | None
    every: bool = False

    def arguments(self, source: Source, values: dict[str, Values]) -> list[tuple[str, ...]]:
        """The inputs as the model's arguments: columns of single numbers are one argument together, all else is one each."""
        lists = [name for name in self.inputs if not is_flat(values[name])]
        if source.noun == "column" and not lists:
            return [self.inputs]
        if self.every and len(self.inputs) > 1:
            problem = f"is left open, and there are {len(self.inputs)} columns of which {lists[0]!r} holds lists"
            raise BadData("data.input", problem, "name those that the model gets")
        return [(name,) for name in self.inputs]


def roles(source: Source, rubric: Rubric) -> Roles:
    """BadData where the source has not what is named, or one thing would be two."""
    data, names = rubric.data, source.names
    if data.factory:
        return Roles(tuple(names[:-1]), (names[-1],), None)
    labels = _names(data.label)
    if rubric.task.type == "language-model" and labels == _DEFAULT_LABEL and "y" not in names:
        labels = ()
    _present(source, "label", labels)
    _present(source, "split", (data.split,) if data.split else ())
    inputs, every = _names(data.input), False
    if source.noun == "column" and inputs == _DEFAULT_INPUT and "x" not in names:
        inputs, every = tuple(name for name in names if name not in (*labels, data.split)), True
        if not inputs:
            raise BadData("data.input", "there is no column but the label's")
        if "" in inputs:
            raise BadData("data.input", "is left open, and one column has no name", "name the inputs; an index is none")
    _present(source, "input", inputs)
    for name in inputs:
        if name in labels or name == data.split:
            raise BadData("data.input", f"{name!r} is the {'label' if name in labels else 'split'} as well")
    return Roles(inputs, labels, data.split, every)


def _present(source: Source, key: str, names: tuple[str, ...]) -> None:
    for name in names:
        if name not in source.names:
            raise BadData(f"data.{key}", f"there is no {source.noun} {name!r}", nearest(name, source.names))


def _names(name: str | tuple[str, ...]) -> tuple[str, ...]:
    return (name,) if isinstance(name, str) else name


_DEFAULT_INPUT = _names(DataFile(path="-").input)
_DEFAULT_LABEL = _names(DataFile(path="-").label)
