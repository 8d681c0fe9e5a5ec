"""Weights without their numbers: what families judge by and reports show."""

from __future__ import annotations

from math import prod

from fifomark.core.record import Record


class TensorSpec(Record):
    """One named tensor. `dtype` is torch's name without "torch." ("float32"); `shape` is in elements."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def numel(self) -> int:
        return prod(self.shape)


class TensorSummary(TensorSpec, frozen=True, kw_only=True):
    """A tensor and its values: the finite ones' range, mean, standard deviation (over their number) and share of zeros, to six digits;
    None where there are none, or they are no real numbers. Counts of NaN and ±Inf.

    `tied_to` names the tensor that it shares its numbers with.
    """

    minimum: float | None = None
    maximum: float | None = None
    mean: float | None = None
    std: float | None = None
    zero_share: float | None = None
    nan: int = 0
    infinite: int = 0
    tied_to: str | None = None


class WeightsSummary(Record):
    """`parameters` counts elements, and `bytes` counts them, ties once."""

    parameters: int
    bytes: int
    dtypes: tuple[str, ...]
    tensors: tuple[TensorSummary, ...]


class FamilySeen(Record):
    """What kind of network the names and shapes are: `name` is "unknown" where nothing fits or two fit equally well."""

    name: str
    evidence: tuple[str, ...] = ()
    alternatives: tuple[str, ...] = ()
    contradictions: tuple[str, ...] = ()
