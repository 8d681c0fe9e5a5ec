"""The `layers` of a convolutional network, as a rubric declares them: a list of one-entry tables, in the order in which they run.

    layers = [{ conv2d = { kernel = 3, padding = 1 } }, { batchnorm2d = {} }, { relu = {} }, { maxpool2d = 2 }, { flatten = {} },
              { linear = {} }]

Names are those of torch.nn in lower case (underscores do not count). A bare value stands for the first option. Widths are read from
the file; groups too, after the first convolution, from the channels that arrive and those that the weight has.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from fifomark.families.family import NotAllowed, did_you_mean

_NEEDED: Final = object()
Lane = str  # the kind of leaf that an entry takes from the file: "conv", "norm", "linear", "prelu"; "" for none


class Option(NamedTuple):
    check: Callable[[object], bool]
    wants: str
    default: object = _NEEDED


class Entry(NamedTuple):
    """One step: its position in the list, its name, all its options."""

    at: int
    name: str
    options: Mapping[str, Any]

    @property
    def lane(self) -> Lane:
        return LANES.get(self.name, "")

    @property
    def transposed(self) -> bool:
        return self.name.startswith("convtranspose")

    @property
    def dimensions(self) -> int:
        """1, 2 or 3 for conv2d and the like."""
        return int(self.name[-2])

    def __str__(self) -> str:
        return f"layers[{self.at}] {self.name}"


def parse(value: object) -> tuple[Entry, ...]:
    """NotAllowed says which entry is wrong and what was meant."""
    if not isinstance(value, list | tuple) or not value:
        raise NotAllowed("", "must be a list of layers", "for example [{ conv2d = { kernel = 3 } }, { relu = {} }]")
    return tuple(_entry(at, item) for at, item in enumerate(value))


def _entry(at: int, item: object) -> Entry:
    table = {item: {}} if isinstance(item, str) else item
    if not isinstance(table, Mapping) or len(table) != 1:
        raise NotAllowed(f"[{at}]", f"{item!r} is not one layer", "write { maxpool2d = 2 } or { relu = {} }")
    written, given = next(iter(table.items()))
    name = str(written).replace("_", "").lower()
    if name not in ENTRIES:
        raise NotAllowed(f"[{at}]", f"{written!r} is no layer", did_you_mean(name, tuple(ENTRIES)))
    options = ENTRIES[name]
    if not isinstance(given, Mapping):
        if not options:
            raise NotAllowed(f"[{at}].{written}", f"takes no option, found {given!r}", f"write {{ {written} = {{}} }}")
        given = {next(iter(options)): given}
    entry = Entry(at, name, _options(f"[{at}].{written}", options, given))
    _axes(f"[{at}].{written}", entry)
    return entry


def _axes(key: str, entry: Entry) -> None:
    for name, value in entry.options.items():
        if isinstance(value, list | tuple) and len(value) != entry.dimensions:
            raise NotAllowed(f"{key}.{name}", f"must have {entry.dimensions} numbers, found {value!r}")
    if entry.options.get("padding") == "same" and entry.options["stride"] not in (1, [1] * entry.dimensions):
        raise NotAllowed(f"{key}.padding", '"same" needs stride 1')


def _options(key: str, options: Mapping[str, Option], given: Mapping[str, object]) -> dict[str, object]:
    for name, value in given.items():
        if name not in options:
            raise NotAllowed(f"{key}.{name}", "unknown option", did_you_mean(name, tuple(options)))
        if not options[name].check(value):
            raise NotAllowed(f"{key}.{name}", f"must be {options[name].wants}, found {value!r}")
    if missing := [name for name, option in options.items() if option.default is _NEEDED and name not in given]:
        raise NotAllowed(f"{key}.{missing[0]}", "is missing")
    return {name: given.get(name, option.default) for name, option in options.items()}


def _count(value: object, least: int = 1) -> bool:
    return type(value) is int and least <= value <= 100_000


def _size(value: object, least: int = 1) -> bool:
    return _count(value, least) or (isinstance(value, list | tuple) and 1 <= len(value) <= 3 and all(_count(v, least) for v in value))


def _padding(value: object) -> bool:
    return value == "same" or _size(value, 0)


def _number(value: object) -> bool:
    return type(value) in (int, float)


def _yes_no(value: object) -> bool:
    return type(value) is bool


_A_SIZE = "a whole number from 1, or a list with one for each axis"
_SIZED = Option(_size, _A_SIZE)
_STEP = Option(_size, _A_SIZE, 1)
_PAD = Option(lambda value: _size(value, 0), "a whole number from 0, or a list", 0)
_PAD_OR_SAME = Option(_padding, 'a whole number from 0, a list, or "same"', 0)
_GROUPS = Option(_count, "a whole number from 1")
_EPS = Option(_number, "a number", 1e-5)
_CEIL = Option(_yes_no, "true or false", False)
_CONV = {"kernel": _SIZED, "stride": _STEP, "padding": _PAD_OR_SAME, "dilation": _STEP, "groups": _GROUPS._replace(default=None)}
_TURNED = _CONV | {"padding": _PAD, "output_padding": _PAD}
_POOL = {"kernel": _SIZED, "stride": _SIZED._replace(default=None), "padding": _PAD, "ceil_mode": _CEIL}

ENTRIES: Mapping[str, Mapping[str, Option]] = {
    **{f"conv{d}d": _CONV for d in (1, 2, 3)},
    **{f"convtranspose{d}d": _TURNED for d in (1, 2, 3)},
    **{f"batchnorm{d}d": {"eps": _EPS} for d in (1, 2, 3)},
    "groupnorm": {"groups": _GROUPS, "eps": _EPS},
    "layernorm": {"eps": _EPS},
    "linear": {},
    "prelu": {},
    **{f"{kind}pool{d}d": _POOL for kind in ("max", "avg") for d in (1, 2, 3)},
    **{f"adaptive{kind}pool{d}d": {"size": _SIZED._replace(default=1)} for kind in ("max", "avg") for d in (1, 2, 3)},
    "globalavgpool": {},
    "flatten": {},
    "dropout": {"p": Option(_number, "a number", 0.5)},
    "dropout2d": {"p": Option(_number, "a number", 0.5)},
    **{name: {} for name in ("relu", "relu6", "tanh", "gelu", "sigmoid", "silu", "mish", "hardswish", "softmax", "logsoftmax")},
    "leakyrelu": {"slope": Option(_number, "a number", 0.01)},
    "elu": {"alpha": Option(_number, "a number", 1.0)},
}
LANES: Mapping[str, Lane] = {
    **{name: "conv" for name in ENTRIES if name.startswith("conv")},
    **{name: "norm" for name in ENTRIES if "norm" in name},
    "linear": "linear",
    "prelu": "prelu",
}
