"""The `layers` of a convolutional network, as a rubric declares them: a list of one-entry tables, in the order in which they run.

    layers = [{ conv2d = { kernel = 3, padding = 1 } }, { batchnorm2d = {} }, { relu = {} }, { maxpool2d = 2 }, { flatten = {} },
              { linear = {} }]

Names are those of torch.nn in lower case (underscores do not count). A bare value stands for the first option. Widths are read from
the file; groups too, after the first convolution, from the channels that arrive and those that the weight has.

Where what arrives goes several ways, these stand for what comes out (lists of layers, in the order of the file; [] hands on what arrives):

    { residual = [ … ] }            the sum of what arrives and what the layers make of it
    { residual = { body = [ … ], shortcut = [ … ] } }       the sum of both
    { parallel = [[ … ], [ … ]] }   what each list makes of it, one behind the other along the channels
    { gate = [ … ] }                the product: squeeze and excitation

    layers = "resnet"               a ResNet whose layers are called as torchvision's are: fifomark.families.resnet
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from fifomark.families.family import NotAllowed, did_you_mean

_NEEDED: Final = object()
Lane = str  # the kind of leaf that an entry takes from the file: "conv", "norm", "linear", "prelu"; "" for none


class Option(NamedTuple):
    check: Callable[[object], bool]
    wants: str
    default: object = _NEEDED


class Entry(NamedTuple):
    """One step: its place in the list ("[3]", or "[3].residual.body[0]"), its name, all its options; `ways` are the lists inside it."""

    at: str
    name: str
    options: Mapping[str, Any]
    ways: tuple[tuple[Entry, ...], ...] = ()

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
        return f"layers{self.at} {self.name}"


def parse(value: object) -> tuple[Entry, ...] | str:
    """The entries, or the name of a LAYOUT. NotAllowed says which entry is wrong and what was meant."""
    if isinstance(value, str) and value in LAYOUTS:
        return value
    if not isinstance(value, list | tuple) or not value:
        hint = did_you_mean(value, LAYOUTS) if isinstance(value, str) else "for example [{ conv2d = { kernel = 3 } }, { relu = {} }]"
        raise NotAllowed("", "must be a list of layers", hint)
    entries = _entries("", value, MAX_DEPTH)
    if late := next((entry for entry in walk(entries) if entry.name == "embedding" and entry.at != "[0]"), None):
        raise NotAllowed(late.at, "an embedding takes the tokens themselves", "it can only be the first layer")
    return entries


def walk(entries: Sequence[Entry]) -> Iterator[Entry]:
    """Every entry, those of inner lists after the one that has them: the order of the file."""
    for entry in entries:
        yield entry
        for way in entry.ways:
            yield from walk(way)


def _entries(key: str, value: object, depth: int) -> tuple[Entry, ...]:
    if not isinstance(value, list | tuple):
        raise NotAllowed(key, f"must be a list of layers, found {value!r}")
    if not depth:
        raise NotAllowed(key, f"lists of layers are nested more than {MAX_DEPTH} deep")
    return tuple(_entry(f"{key}[{at}]", item, depth) for at, item in enumerate(value))


def _entry(key: str, item: object, depth: int) -> Entry:
    table = {item: {}} if isinstance(item, str) else item
    if not isinstance(table, Mapping) or len(table) != 1:
        raise NotAllowed(key, f"{item!r} is not one layer", "write { maxpool2d = 2 } or { relu = {} }")
    written, given = next(iter(table.items()))
    name = str(written).replace("_", "").lower()
    if name in JOINTS:
        return Entry(key, name, {}, _ways(f"{key}.{written}", name, given, depth - 1))
    if name not in ENTRIES:
        raise NotAllowed(key, f"{written!r} is no layer", did_you_mean(name, (*ENTRIES, *JOINTS)))
    options = ENTRIES[name]
    if not isinstance(given, Mapping):
        if not options:
            raise NotAllowed(f"{key}.{written}", f"takes no option, found {given!r}", f"write {{ {written} = {{}} }}")
        given = {next(iter(options)): given}
    entry = Entry(key, name, _options(f"{key}.{written}", options, given))
    _axes(f"{key}.{written}", entry)
    return entry


def _ways(key: str, name: str, given: object, depth: int) -> tuple[tuple[Entry, ...], ...]:
    """The lists inside an entry; for a residual body and shortcut, for a gate what is multiplied and by what."""
    if name == "parallel":
        if not isinstance(given, list | tuple) or len(given) < 2:
            raise NotAllowed(key, "must be two or more lists of layers", "write { parallel = [[…], […]] }")
        return tuple(_entries(f"{key}[{at}]", way, depth) for at, way in enumerate(given))
    if name == "residual" and isinstance(given, Mapping):
        if strange := next((part for part in given if part not in ("body", "shortcut")), None):
            raise NotAllowed(f"{key}.{strange}", "unknown option", did_you_mean(strange, ("body", "shortcut")))
        return tuple(_entries(f"{key}.{part}", given.get(part, []), depth) for part in ("body", "shortcut"))
    return _entries(key, given, depth), ()


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

MAX_DEPTH = 8
LAYOUTS = ("resnet",)
JOINTS = ("residual", "parallel", "gate")
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
    "globalmaxpool": {},
    "embedding": {"channels": Option(lambda value: value in ("first", "last"), '"first" or "last"', "first")},
    "unsqueeze": {},
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
    "embedding": "linear",  # a matrix: names and shapes do not tell the two apart
    "prelu": "prelu",
}
