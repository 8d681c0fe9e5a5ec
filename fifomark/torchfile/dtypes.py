"""torch's dtypes by name, with the numpy type that holds the same bits and the storage class that a pickle names for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import ml_dtypes
import numpy as np


class DType(NamedTuple):
    """`name` is torch's without "torch."; `numpy` holds the same bits, for complex32 and float4 as raw ones: numpy has no such numbers.

    `storage` is the typed storage class in `torch`, None where only UntypedStorage and a dtype do.
    """

    name: str
    numpy: np.dtype[np.generic]
    storage: str | None = None

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""
        return self.numpy.itemsize

    @property
    def real(self) -> np.dtype[np.generic] | None:
        """The type of the real numbers that an element is made of: itself, or the two halves of a complex one. None: no numbers for us."""
        return _REAL.get(self.name, self.numpy)


_REAL: dict[str, np.dtype[np.generic] | None] = {
    "complex32": np.dtype("<f2"),
    "complex64": np.dtype("<f4"),
    "complex128": np.dtype("<f8"),
    "float4_e2m1fn_x2": None,
    "bool": None,
}


def _dtype(name: str, scalar: object, storage: str | None = None) -> tuple[str, DType]:
    return name, DType(name, np.dtype(scalar).newbyteorder("<"), storage)  # type: ignore[call-overload]


DTYPES: Mapping[str, DType] = dict(
    [
        _dtype("float64", np.float64, "DoubleStorage"),
        _dtype("float32", np.float32, "FloatStorage"),
        _dtype("float16", np.float16, "HalfStorage"),
        _dtype("bfloat16", ml_dtypes.bfloat16, "BFloat16Storage"),
        _dtype("float8_e4m3fn", ml_dtypes.float8_e4m3fn),
        _dtype("float8_e4m3fnuz", ml_dtypes.float8_e4m3fnuz),
        _dtype("float8_e5m2", ml_dtypes.float8_e5m2),
        _dtype("float8_e5m2fnuz", ml_dtypes.float8_e5m2fnuz),
        _dtype("float8_e8m0fnu", ml_dtypes.float8_e8m0fnu),
        _dtype("float4_e2m1fn_x2", np.uint8),  # two numbers in a byte
        _dtype("complex32", np.uint32),
        _dtype("complex64", np.complex64, "ComplexFloatStorage"),
        _dtype("complex128", np.complex128, "ComplexDoubleStorage"),
        _dtype("int64", np.int64, "LongStorage"),
        _dtype("int32", np.int32, "IntStorage"),
        _dtype("int16", np.int16, "ShortStorage"),
        _dtype("int8", np.int8, "CharStorage"),
        _dtype("uint64", np.uint64),
        _dtype("uint32", np.uint32),
        _dtype("uint16", np.uint16),
        _dtype("uint8", np.uint8, "ByteStorage"),
        _dtype("bool", np.bool_, "BoolStorage"),
    ]
)

# Names that torch knows and we refuse, each with the reason that its owner reads.
REFUSED: Mapping[str, str] = {
    **dict.fromkeys(("qint8", "quint8", "qint32", "quint4x2", "quint2x4"), "a quantized tensor: call .dequantize() on it before saving"),
    **dict.fromkeys(("bit", "bits8", "bits16", "bits1x8", "bits2x4", "bits4x2"), "raw bits without a number type"),
    **{f"{sign}int{bits}": "a number of less than a byte: save it as int8" for sign in ("", "u") for bits in range(1, 8)},
}


def unsupported(name: str) -> str:
    """Why there is no DType of this name, for a person."""
    return REFUSED.get(name, "no number type of torch that fifomark knows")
