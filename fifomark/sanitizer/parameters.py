"""The values of one tensor, seen once, piece by piece: what is not finite, the range, the mean, what is zero or next to it."""

from __future__ import annotations

from math import fsum, isfinite, prod, sqrt
from typing import TYPE_CHECKING, Any

import numpy as np

from fifomark.core.weights import TensorSummary
from fifomark.sanitizer.low_bits import LowBits
from fifomark.sanitizer.outliers import Sample
from fifomark.torchfile.dtypes import DType

if TYPE_CHECKING:
    import numpy.typing as npt

MAX_ROWS = 1 << 22
_PIECE = 1 << 16  # values
_NATIVE = {np.dtype(np.float32): (np.uint32, 0x01000000), np.dtype(np.float64): (np.uint64, 1 << 53)}  # the least normal one, doubled
_minimum, _maximum, _total = np.minimum.reduce, np.maximum.reduce, np.add.reduce


class Values:
    """Fed with the bytes of a tensor in row-major order, in pieces of whole elements; complete once `end` was called.

    Whoever feeds and ends it has told numpy not to warn, once for all tensors of a file.
    """

    def __init__(self, dtype: DType, shape: tuple[int, ...] = ()) -> None:
        self.dtype, self.shape = dtype, shape
        self.nan = self.infinite = self.positive_infinite = 0
        self.first_nan: int | None = None  # flat indices
        self.first_infinite: int | None = None
        self.minimum: float | None = None  # of the finite values; these and all that follows: None or 0 for complex numbers
        self.maximum: float | None = None
        self.finite = self.zeros = self.subnormal = 0
        self.outlier = 0.0  # of a layer: how many times the usual the largest value is, where that may be many
        self.dead_rows = 0  # of a layer: indices of the first dimension under which everything is zero
        self._real = dtype.real
        self._complex = dtype.name.startswith("complex")
        floating = "float" in dtype.name
        self._native = np.float32 if floating else np.float64  # what numbers of other types are looked at as
        self.is_layer = floating and len(shape) > 1  # whether this is a weight that works on inputs
        self.low_bits = LowBits() if dtype.name in ("float32", "float64") else None
        self._fed = 0
        self._shift = self._sum = self._squares = 0.0  # sums of the differences from the first value: among values alike nothing cancels
        self._sample: Sample | None = None
        self._row = 0  # elements
        self._alive: npt.NDArray[np.bool_] | None = None  # which rows have something in them; None as long as all that were seen have
        if self.is_layer:
            self._sample = Sample(prod(shape))
            if 0 not in shape and shape[0] <= MAX_ROWS:
                self._row = prod(shape[1:])

    @property
    def peak(self) -> float:
        """The largest magnitude."""
        return max(abs(self.minimum or 0.0), abs(self.maximum or 0.0))

    def feed(self, data: bytes | memoryview) -> None:
        """`data`: whole elements, little-endian."""
        if self._real is None or not len(data):
            return
        values = np.frombuffer(data, self._real)
        if self._complex:
            self._feed_complex(values)
        else:
            self._feed_real(values)
        self._fed += len(data) // self.dtype.itemsize

    @property
    def mean(self) -> float | None:
        return self._shift + self._sum / self.finite if self.finite else None

    @property
    def std(self) -> float | None:
        """The standard deviation of the finite values, over their number. None where it is beyond what a float can hold."""
        if not self.finite:
            return None
        off = self._sum / self.finite
        variance = self._squares / self.finite - off * off
        return sqrt(max(0.0, variance)) if isfinite(variance) else None

    def end(self) -> None:
        """All of the tensor was fed. What only the way there needed is let go, so that a file of many tensors takes no more than one."""
        if self._sample is not None:
            self.dead_rows = 0 if self._alive is None else self._alive.size - int(np.count_nonzero(self._alive))
            mean, std = self.mean or 0.0, self.std
            squares = self.finite * (mean * mean + std * std) if std is not None else None
            self.outlier = self._sample.outlier(self.peak, self.finite, squares)
        self._sample, self._row, self._alive = None, 0, None

    def summary(self, name: str, tied_to: str | None) -> TensorSummary:
        """What a report shows of the tensor."""
        return TensorSummary(
            name=name,
            dtype=self.dtype.name,
            shape=self.shape,
            minimum=self.minimum,
            maximum=self.maximum,
            mean=_rounded(self.mean),
            std=_rounded(self.std),
            zero_share=_rounded(self.zeros / self.finite) if self.finite else None,
            nan=self.nan,
            infinite=self.infinite,
            tied_to=tied_to,
        )

    def _feed_complex(self, parts: npt.NDArray[Any]) -> None:
        if not np.isfinite(parts).all():
            pairs = parts.reshape(-1, 2)
            self._count_bad(np.isnan(pairs).any(1), np.isinf(pairs).any(1), np.zeros(1, bool))

    def _feed_real(self, values: npt.NDArray[Any]) -> None:
        """Looks at the values as float32 (exact for every float of 16 bits or fewer) or float64."""
        native = values if values.dtype in _NATIVE else values.astype(self._native)
        bits, normal = _NATIVE[native.dtype]
        low, high = float(_minimum(native)), float(_maximum(native))  # a NaN goes through both
        bad = not (isfinite(low) and isfinite(high))
        magnitude = native.view(bits) << 1  # without the sign, magnitudes are ordered as their bits are
        small = bool(_minimum(magnitude) < normal)
        self._see_rows(native, small and not bad)  # what is not finite is not zero
        if bad:
            native = self._without_bad(native)
            if not native.size:
                return
            low, high = float(_minimum(native)), float(_maximum(native))
        else:
            self._look(native)
        if small:
            zeros = native.size - int(np.count_nonzero(native))
            self.zeros += zeros
            self.subnormal += int(np.count_nonzero(magnitude < normal)) - zeros
        self._add(native, low, high)

    def _look(self, values: npt.NDArray[Any]) -> None:
        if self._sample is not None:
            self._sample.feed(values, self._fed)
        if self.low_bits is not None:
            self.low_bits.feed(values)

    def _add(self, values: npt.NDArray[Any], low: float, high: float) -> None:
        """`low` and `high` are the least and the largest of the values, all finite."""
        self.minimum = low if self.minimum is None else min(self.minimum, low)
        self.maximum = high if self.maximum is None else max(self.maximum, high)
        if not self.finite:
            self._shift = float(values[0])
        apart = values - values.dtype.type(self._shift)
        total, squares = float(_total(apart)), _squared(apart)
        if not (isfinite(total) and isfinite(squares)):
            apart = values.astype(np.float64) - self._shift
            total, squares = float(_total(apart)), _squared(apart)
        self._sum += total
        self._squares += squares
        self.finite += values.size

    def _without_bad(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Count what is not finite, and give the rest."""
        nan, infinite = np.isnan(values), np.isinf(values)
        self._count_bad(nan, infinite, infinite & (values > 0))
        finite: npt.NDArray[Any] = values[~(nan | infinite)]
        return finite

    def _count_bad(self, nan: npt.NDArray[Any], infinite: npt.NDArray[Any], positive: npt.NDArray[Any]) -> None:
        """A complex number with a NaN in either part counts as NaN, whatever the other part is."""
        infinite = infinite & ~nan
        if self.first_nan is None and nan.any():
            self.first_nan = self._fed + int(nan.argmax())
        if self.first_infinite is None and infinite.any():
            self.first_infinite = self._fed + int(infinite.argmax())
        self.nan += int(nan.sum())
        self.infinite += int(infinite.sum())
        self.positive_infinite += int(positive.sum())

    def _see_rows(self, values: npt.NDArray[Any], small: bool) -> None:
        """Which rows have something in them. Where nothing is small, all that these values touch do."""
        if not self._row or (self._alive is None and not small):
            return
        if self._alive is None:
            self._alive = np.zeros(self.shape[0], bool)
            self._alive[: -(-self._fed // self._row)] = True
        first, last = self._fed // self._row, (self._fed + values.size - 1) // self._row
        if not small:
            self._alive[first : last + 1] = True
            return
        starts = np.arange(first, last + 1) * self._row - self._fed
        starts[0] = 0
        self._alive[first : last + 1] |= np.logical_or.reduceat(values != 0, starts)


def _squared(values: npt.NDArray[Any]) -> float:
    """The sum of the squares: of millions of float32 at once its sixth digit would depend on the machine, and on how they are fed."""
    if values.size <= _PIECE:
        return float(values.dot(values))
    pieces = (values[i : i + _PIECE] for i in range(0, values.size, _PIECE))
    return fsum(float(piece.dot(piece)) for piece in pieces)


def _rounded(value: float | None) -> float | None:
    """Six digits: the rest depends on the order of the summing. None beyond what JSON can say."""
    return float(f"{value:.6g}") if value is not None and isfinite(value) else None
