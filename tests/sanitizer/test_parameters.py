"""Values of tensors, against numpy in one piece."""

from __future__ import annotations

import tracemalloc

import ml_dtypes
import numpy as np
import pytest

from fifomark.sanitizer.parameters import Values
from fifomark.torchfile.dtypes import DTYPES

FLOATS = [name for name in DTYPES if "float" in name and "float4" not in name]
WITH_INF = [name for name in FLOATS if name not in ("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu")]


@np.errstate(all="ignore")  # as extraction does
def seen(name: str, data: bytes, pieces: int = 1) -> Values:
    values = Values(DTYPES[name])
    step = len(data) // pieces
    for i in range(pieces):
        values.feed(data[i * step : (i + 1) * step])
    values.end()
    return values


@pytest.mark.parametrize("pieces", [1, 4])
@pytest.mark.parametrize("name", FLOATS)
def test_finite_floats_have_a_smallest_and_a_largest(name: str, pieces: int) -> None:
    numbers = np.array([0.5, 2, 4, 0.25, 8, 1, 1, 1]).astype(DTYPES[name].numpy)
    values = seen(name, numbers.tobytes(), pieces)
    assert (values.nan, values.infinite, values.minimum, values.maximum) == (0, 0, 0.25, 8.0)
    assert values.first_nan is values.first_infinite is None


@pytest.mark.parametrize("pieces", [1, 3])
@pytest.mark.parametrize("name", FLOATS)
def test_nan_is_counted_and_located_in_every_float(name: str, pieces: int) -> None:
    numbers = np.array([1, 2, 4, 8, np.nan, 1, 0.5, np.nan, 1]).astype(DTYPES[name].numpy)
    values = seen(name, numbers.tobytes(), pieces)
    assert (values.nan, values.first_nan, values.infinite, values.minimum, values.maximum) == (2, 4, 0, 0.5, 8.0)


@pytest.mark.parametrize("pieces", [1, 3])
@pytest.mark.parametrize("name", WITH_INF)
def test_infinities_of_both_signs_are_counted_and_located(name: str, pieces: int) -> None:
    numbers = np.array([1, 2, 4, 8, -8, np.inf, 0.5, -np.inf, np.nan]).astype(DTYPES[name].numpy)
    values = seen(name, numbers.tobytes(), pieces)
    assert (values.infinite, values.first_infinite, values.nan, values.first_nan) == (2, 5, 1, 8)
    assert (values.minimum, values.maximum) == (-8.0, 8.0)


@pytest.mark.parametrize("bits", [0x7F800001, 0xFF800001, 0x7FC00000, 0xFFFFFFFF])
def test_a_nan_of_any_payload_and_sign_is_one(bits: int) -> None:
    assert seen("float32", np.array([bits], "<u4").tobytes()).nan == 1


@pytest.mark.parametrize("name", ["float16", "bfloat16", *(name for name in FLOATS if "8_" in name)])
def test_every_bit_pattern_of_the_small_floats_is_judged_as_its_type_says(name: str) -> None:
    dtype = DTYPES[name]
    patterns = np.arange(1 << 8 * dtype.itemsize, dtype=f"<u{dtype.itemsize}")
    with np.errstate(invalid="ignore"):
        numbers = patterns.view(dtype.numpy).astype(np.float64)
    values, finite = seen(name, patterns.tobytes()), numbers[np.isfinite(numbers)]
    assert (values.nan, values.infinite) == (np.isnan(numbers).sum(), np.isinf(numbers).sum())
    assert (values.minimum, values.maximum) == (finite.min(), finite.max())


@pytest.mark.parametrize("name", ["complex64", "complex128"])
def test_a_complex_number_is_bad_in_either_part_and_has_no_order(name: str) -> None:
    numbers = np.array([1, complex(0, np.nan), complex(np.inf, 0), complex(np.inf, np.nan)]).astype(DTYPES[name].numpy)
    values = seen(name, numbers.tobytes())
    assert (values.nan, values.infinite, values.first_nan, values.first_infinite) == (2, 1, 1, 2)
    assert (values.minimum, values.maximum) == (None, None)


@pytest.mark.parametrize("name", [name for name in DTYPES if "int" in name])
def test_integers_have_a_range_and_nothing_that_is_not_finite(name: str) -> None:
    info = np.iinfo(DTYPES[name].numpy)
    values = seen(name, np.array([1, info.min, info.max], DTYPES[name].numpy).tobytes())
    assert (values.minimum, values.maximum, values.nan) == (float(info.min), float(info.max), 0)


@pytest.mark.parametrize(("name", "data"), [("bool", b"\0\1\1"), ("float32", b""), ("float32", np.float32("nan").tobytes())])
def test_what_has_no_finite_number_has_no_range(name: str, data: bytes) -> None:
    values = seen(name, data)
    assert (values.minimum, values.maximum) == (None, None)


def test_ml_dtypes_agrees_that_e8m0_has_one_nan() -> None:
    assert np.isnan(np.array([0xFF], np.uint8).view(ml_dtypes.float8_e8m0fnu).astype(np.float32)).all()


# What a report shows


@pytest.mark.parametrize("pieces", [1, 5])
@pytest.mark.parametrize("name", [name for name in DTYPES if DTYPES[name].real and not name.startswith("complex") and "e8m0" not in name])
def test_mean_spread_and_zeros_are_numpys(name: str, pieces: int) -> None:
    rng = np.random.default_rng(3)
    numbers = np.abs(rng.normal(3, 2, 1000)).round(1).astype(DTYPES[name].numpy)
    numbers[::7] = 0
    truth = numbers.astype(np.float64)
    summary = seen(name, numbers.tobytes(), pieces).summary("w", None)
    assert summary.mean == pytest.approx(truth.mean(), rel=1e-5)
    assert summary.std == pytest.approx(truth.std(), rel=1e-5)
    assert summary.zero_share == float(f"{(truth == 0).mean():.6g}")


def test_a_spread_that_is_small_beside_its_mean_is_not_lost() -> None:
    numbers = np.float32(1e6) + np.arange(100, dtype=np.float32)
    values = seen("float32", numbers.tobytes(), 10)
    assert (values.mean, values.std) == (pytest.approx(1e6 + 49.5), pytest.approx(np.arange(100).std(), rel=1e-4))


def test_squares_beyond_the_type_are_summed_in_a_wider_one() -> None:
    numbers = np.array([3e38, -3e38, 1e38, -1e38], np.float32)
    values = seen("float32", numbers.tobytes(), 2)
    assert (values.mean, values.std) == (pytest.approx(0, abs=1e31), pytest.approx(float(numbers.astype(np.float64).std())))


def test_what_is_not_finite_counts_for_nothing() -> None:
    summary = seen("float32", np.array([1, np.nan, 3, np.inf, 0], np.float32).tobytes()).summary("w", None)
    assert (summary.mean, summary.zero_share) == (pytest.approx(4 / 3, rel=1e-5), 0.333333)


@pytest.mark.parametrize("name", ["complex64", "bool", "float4_e2m1fn_x2"])
def test_what_are_no_real_numbers_have_no_statistics(name: str) -> None:
    summary = seen(name, bytes(DTYPES[name].itemsize * 3)).summary("w", None)
    assert (summary.minimum, summary.mean, summary.std, summary.zero_share) == (None, None, None, None)


# What is zero, or next to it


@pytest.mark.parametrize("pieces", [1, 2, 6, 12, 24])
def test_rows_of_zeros_are_counted_however_they_are_cut(pieces: int) -> None:
    numbers = np.ones((6, 4), np.float32)
    numbers[[1, 2, 5]] = 0
    numbers[2, 3] = 1e-30
    values = Values(DTYPES["float32"], (6, 2, 2))
    step = numbers.nbytes // pieces
    for at in range(0, numbers.nbytes, step):
        values.feed(numbers.tobytes()[at : at + step])
    values.end()
    assert (values.dead_rows, values.zeros) == (2, 11)


def test_a_row_with_nothing_but_nan_is_not_dead_and_a_vector_has_none() -> None:
    values = Values(DTYPES["float32"], (2, 2))
    values.feed(np.array([np.nan, np.nan, 0, 1], np.float32).tobytes())
    values.end()
    assert values.dead_rows == 0
    assert seen("float32", bytes(16)).dead_rows == 0


@pytest.mark.parametrize("name", ["float32", "float64", "bfloat16"])
def test_subnormal_values_are_counted_and_zeros_are_none(name: str) -> None:
    tiny = float(np.finfo(np.float32 if name != "float64" else np.float64).tiny)
    numbers = np.array([0.0, -0.0, tiny, tiny / 4, -tiny / 2, 1]).astype(DTYPES[name].numpy)
    values = seen(name, numbers.tobytes(), 2)
    assert (values.subnormal, values.zeros) == (2, 2)


def test_small_values_of_half_precision_are_fast_and_so_not_counted() -> None:
    assert seen("float16", np.array([6e-8, 1e-6], np.float16).tobytes()).subnormal == 0


# What a file of many tensors costs


@pytest.mark.parametrize("name", ["float32", "float64", "bfloat16", "int8", "int64", "complex64"])
def test_what_was_seen_of_a_tensor_is_kept_as_a_few_numbers(name: str) -> None:
    """Samples and rows of 33,500 views of one storage once came to 4 GB."""
    shape = (8191, 2)
    data = np.arange(1, 2 * 8191 + 1).astype(DTYPES[name].numpy).tobytes()
    tracemalloc.start()
    kept = []
    for _ in range(50):
        values = Values(DTYPES[name], shape)
        values.feed(data)
        values.end()
        kept.append(values)
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert held < len(kept) * 4096


def test_an_outlier_is_told_once_the_tensor_has_ended() -> None:
    numbers = np.ones((100, 100), np.float32)
    numbers[50, 50] = 5e4
    values = Values(DTYPES["float32"], numbers.shape)
    for row in numbers:
        values.feed(row.tobytes())
    values.end()
    assert values.outlier == pytest.approx(5e4)
    plain = Values(DTYPES["int64"], numbers.shape)
    plain.feed(numbers.astype(np.int64).tobytes())
    plain.end()
    assert plain.outlier == 0
