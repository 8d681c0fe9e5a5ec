"""The values of one tensor: how many are NaN or infinite, where the first is, and the smallest and largest finite one."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fifomark.core.weights import TensorSummary
from fifomark.torchfile.dtypes import DType

_FLOATS = {np.dtype(np.float64), np.dtype(np.float32)}


class Values:
    """Fed with the bytes of a tensor, piece by piece in row-major order, it counts and compares."""

    def __init__(self, dtype: DType) -> None:
        self.nan = self.infinite = 0
        self.first_nan: int | None = None  # flat indices
        self.first_infinite: int | None = None
        self.minimum: float | None = None  # of the finite values; None for complex numbers and bool
        self.maximum: float | None = None
        self._dtype = dtype.numpy
        self._complex = dtype.name.startswith("complex")
        self._floating = self._complex or "float" in dtype.name
        self._ordered = not self._complex and dtype.name != "bool"
        self._fed = 0

    def feed(self, data: bytes | memoryview) -> None:
        """`data`: whole elements, little-endian."""
        values = np.frombuffer(data, self._dtype)
        if not values.size:
            return
        # A signalling NaN is what we look for, no reason to warn.
        with np.errstate(all="ignore"):
            if self._floating:
                self._feed_floats(values)
            elif self._ordered:
                self._span(values)
        self._fed += values.size

    def _feed_floats(self, values: npt.NDArray[Any]) -> None:
        """NaN and Inf show in the minimum and maximum, which one fast pass gives; only where they do is every value asked."""
        if not self._complex and values.dtype not in _FLOATS:
            values = values.astype(np.float32)  # exact for every float of 16 bits or fewer
        parts = values.view(np.float32 if values.dtype == np.complex64 else np.float64) if self._complex else values
        if not (np.isfinite(parts.min()) and np.isfinite(parts.max())):
            values = self._without_bad(values)
        if self._ordered and values.size:
            self._span(values)

    def _without_bad(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Count what is not finite, and give the rest. A complex number with a NaN in either part counts as NaN."""
        nan = np.isnan(values)
        infinite = np.isinf(values) & ~nan
        if self.first_nan is None and nan.any():
            self.first_nan = self._fed + int(nan.argmax())
        if self.first_infinite is None and infinite.any():
            self.first_infinite = self._fed + int(infinite.argmax())
        self.nan += int(nan.sum())
        self.infinite += int(infinite.sum())
        finite: npt.NDArray[Any] = values[~(nan | infinite)]
        return finite

    def _span(self, values: npt.NDArray[Any]) -> None:
        low, high = float(values.min()), float(values.max())
        self.minimum = low if self.minimum is None else min(self.minimum, low)
        self.maximum = high if self.maximum is None else max(self.maximum, high)

    def summary(self, name: str, dtype: DType, shape: tuple[int, ...], tied_to: str | None) -> TensorSummary:
        """What a report shows of the tensor."""
        return TensorSummary(
            name=name,
            dtype=dtype.name,
            shape=shape,
            minimum=self.minimum,
            maximum=self.maximum,
            nan=self.nan,
            infinite=self.infinite,
            tied_to=tied_to,
        )
