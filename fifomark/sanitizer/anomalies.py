"""What is wrong or strange about the values of the weights, as findings: one for each kind, over all tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from fifomark.core.catalogue import find
from fifomark.core.findings import Finding, Level
from fifomark.sanitizer.outliers import OUTLIER
from fifomark.sanitizer.parameters import Values

ENORMOUS = 1e10  # whatever the others are: no training ends there, and float32 overflows a few layers on
DEAD_SHARE = 0.1  # of the units of a layer, from which on it is a warning
SUBNORMAL_SHARE = 0.01  # of the values of a tensor, likewise
_SHOWN = 20  # tensors in an evidence
_STATISTICS = ("running_var", "num_batches_tracked")

Seen = dict[str, str]  # the name of a tensor → what was seen in it


class Tensors(dict[str, Values]):
    """Those that a rule may have something to say of. `count`: of how many."""

    count = 0


def judge(tensors: Mapping[str, Values]) -> list[Finding]:
    """`tensors`: the values of each by its name, ties once."""
    odd = Tensors((name, values) for name, values in tensors.items() if _is_odd(name, values))
    odd.count = len(tensors)
    return [finding for rule in _RULES for finding in rule(odd)] if odd else []


def _is_odd(name: str, values: Values) -> bool:
    """Whether any rule may have something to say: nearly all tensors are passed over here."""
    return bool(
        values.minimum == values.maximum
        or values.nan
        or values.infinite
        or values.subnormal
        or values.dead_rows
        or values.outlier > OUTLIER
        or values.peak > ENORMOUS
        or (values.low_bits is not None and values.low_bits.pattern)
        or name.endswith(_STATISTICS)
    )


def _one(code: str, seen: Seen, tensors: Tensors, what: str, level: Level | None = None) -> Iterator[Finding]:
    if seen:
        listed = "; ".join(f"{name}: {text}" for name, text in list(seen.items())[:_SHOWN])
        yield find(code, next(iter(seen)), f"{what}, in {len(seen)} of {tensors.count} tensors", evidence=listed, level=level)


def _nan(tensors: Tensors) -> Iterator[Finding]:
    seen = {name: f"{v.nan:,}, the first at flat index {v.first_nan}" for name, v in tensors.items() if v.nan}
    yield from _one("FM401", seen, tensors, _counted(sum(v.nan for v in tensors.values()), "NaN"))


def _infinite(tensors: Tensors) -> Iterator[Finding]:
    bad = {name: v for name, v in tensors.items() if v.infinite}
    masks = {name: v for name, v in bad.items() if _is_mask(v)}
    for level, of in ((None, {name: v for name, v in bad.items() if name not in masks}), (Level.WARNING, masks)):
        seen = {name: f"{v.infinite:,}, the first at flat index {v.first_infinite}" for name, v in of.items()}
        what = _counted(sum(v.infinite for v in of.values()), "infinite")
        yield from _one("FM402", seen, tensors, what + (" and the rest zero, as in an attention mask" if level else ""), level)


def _is_mask(values: Values) -> bool:
    """Zeros, and minus infinity where a Transformer must not look: torch's own square subsequent mask."""
    return values.minimum == values.maximum == 0 and not values.nan and not values.positive_infinite


def _constant(tensors: Tensors) -> Iterator[Finding]:
    same = {name: v for name, v in tensors.items() if v.is_layer and v.finite > 1 and v.minimum == v.maximum and not (v.infinite or v.nan)}
    yield from _one("FM403", {name: _shape(v) for name, v in same.items() if v.minimum == 0}, tensors, "all weights are zero")
    other = {name: f"{v.minimum:g} everywhere" for name, v in same.items() if v.minimum != 0}
    yield from _one("FM404", other, tensors, "all weights have one and the same value")


def _extreme(tensors: Tensors) -> Iterator[Finding]:
    seen = {name: f"±{v.peak:g}, {_times(v.outlier)} times the usual" for name, v in tensors.items() if v.outlier > OUTLIER}
    yield from _one("FM405", seen, tensors, f"a value is more than {OUTLIER:,.0f} times as large as is usual in its tensor")
    enormous = {name: f"±{v.peak:g}" for name, v in tensors.items() if v.is_layer and name not in seen and v.peak > ENORMOUS}
    yield from _one("FM405", enormous, tensors, f"a value is beyond {ENORMOUS:g}")


def _dead(tensors: Tensors) -> Iterator[Finding]:
    dead = {name: v for name, v in tensors.items() if v.maximum != v.minimum and v.dead_rows}
    many = {name for name, v in dead.items() if v.dead_rows >= DEAD_SHARE * v.shape[0] and v.dead_rows > 1}
    for level, names in ((Level.WARNING, many), (None, dead.keys() - many)):
        seen = {name: f"{v.dead_rows:,} of {v.shape[0]:,}" for name, v in dead.items() if name in names}
        yield from _one("FM406", seen, tensors, "units have no weight but zero", level)


def _statistics(tensors: Tensors) -> Iterator[Finding]:
    variances = {name: v for name, v in tensors.items() if _named(name, "running_var") and v.minimum is not None}
    negative = {name: f"down to {v.minimum:g}" for name, v in variances.items() if v.minimum is not None and v.minimum < 0}
    yield from _one("FM407", negative, tensors, "running variances are negative")
    zero = {name: f"{v.zeros:,} of {v.finite:,}" for name, v in variances.items() if v.zeros}
    yield from _one("FM408", zero, tensors, "running variances are zero")
    counters = {name: v.minimum for name, v in tensors.items() if _named(name, "num_batches_tracked")}
    below = {name: f"{count:g}" for name, count in counters.items() if count is not None and count < 0}
    yield from _one("FM409", below, tensors, "counters of batches are negative")


def _subnormal(tensors: Tensors) -> Iterator[Finding]:
    few = {name: v for name, v in tensors.items() if v.subnormal}
    many = {name for name, v in few.items() if v.subnormal > SUBNORMAL_SHARE * v.finite}
    for level, names in ((Level.WARNING, many), (None, few.keys() - many)):
        seen = {name: f"{v.subnormal:,} of {v.finite:,}" for name, v in few.items() if name in names}
        what = _counted(sum(few[name].subnormal for name in names), "subnormal")
        yield from _one("FM410", seen, tensors, what, level)


def _hidden(tensors: Tensors) -> Iterator[Finding]:
    seen = {}
    for name, values in tensors.items():
        if values.low_bits is not None and (p := values.low_bits.pattern):
            chance = f"{p.expected:,.1f} by chance"
            seen[name] = f"{p.printable:.0%} of {p.size:,} bytes printable, {p.pairs:,} pairs of four bytes alike ({chance})"
    yield from _one("FM411", seen, tensors, "the lowest bytes of the weights look like a text or a program")


_RULES: tuple[Callable[[Tensors], Iterable[Finding]], ...] = (
    _nan, _infinite, _constant, _extreme, _dead, _statistics, _subnormal, _hidden,
)  # fmt: skip


def _named(name: str, last: str) -> bool:
    return name.rsplit(".", 1)[-1] == last


def _shape(values: Values) -> str:
    return f"({', '.join(map(str, values.shape))})"


def _times(ratio: float) -> str:
    return f"{ratio:,.0f}" if ratio < 1e6 else f"{ratio:.1e}"


def _counted(count: int, what: str) -> str:
    return f"{count:,} {'value is' if count == 1 else 'values are'} {what}"
