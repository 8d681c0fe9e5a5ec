"""What is strange about values: noticed where it is, and only there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fifomark.core.findings import Finding, Level
from fifomark.sanitizer.anomalies import judge
from fifomark.sanitizer.parameters import Values
from fifomark.torchfile.dtypes import DTYPES

RNG = np.random.default_rng(5)


@np.errstate(all="ignore")  # as extraction does
def values(numbers: Any, name: str = "float32") -> Values:
    array = np.asarray(numbers).astype(DTYPES[name].numpy)
    made = Values(DTYPES[name], array.shape)
    data = array.tobytes()
    for at in range(0, len(data), 1 << 20):
        made.feed(data[at : at + (1 << 20)])
    made.end()
    return made


def judged(**tensors: Any) -> list[Finding]:
    given = {name.replace("__", "."): array for name, array in tensors.items()}
    return judge({name: array if isinstance(array, Values) else values(array) for name, array in given.items()})


def codes(**tensors: Any) -> list[tuple[str, Level]]:
    return [(finding.code, finding.level) for finding in judged(**tensors)]


def normal(*shape: int) -> Any:
    return RNG.normal(0, 0.05, shape)


def with_(array: Any, where: Any, value: float) -> Any:
    changed = array.copy()
    changed[where] = value
    return changed


HONEST = {
    "weights": normal(64, 32),
    "a large layer": normal(512, 1024),
    "an orthogonal layer": np.linalg.qr(RNG.normal(size=(64, 64)))[0],
    "a uniform layer": RNG.uniform(-0.1, 0.1, (64, 64)),
    "heavy tails": RNG.standard_t(3, (256, 256)) * 0.02,
    "a bias of zeros": np.zeros(10),
    "a norm's weight of ones": np.ones(64),
    "one number": np.full((1, 1), 3.0),
    "nothing": np.zeros((0, 4)),
    "a few large ones among few": with_(normal(4, 4), (0, 0), 2.0),
    "positions": np.arange(512)[None, :],
    "sines": np.sin(np.arange(1, 129)[:, None] / 10000 ** (np.arange(256) / 256)),
    "a triangle": np.tril(np.ones((64, 64))),
    "weights that were halves": normal(256, 256).astype(np.float16),
    "eight bits with a scale": RNG.integers(-128, 128, (256, 256)) * np.float32(0.0123),
    "a scale for each row": RNG.integers(-128, 128, (256, 512)) * RNG.random((256, 1)).astype(np.float32),
    "a ramp": np.linspace(0, 1, 65536).reshape(256, 256),
    "a table of cosines": np.cos(2 * np.pi * np.outer(np.arange(256), np.arange(512)) / 512),
    "rows that repeat": np.repeat(normal(16, 512), 16, 0),
    "three values": RNG.choice([-0.3, 0.1, 0.3], (256, 512)),
    "pruned": normal(256, 512) * (RNG.random((256, 512)) > 0.9),
}


@pytest.mark.parametrize("array", HONEST.values(), ids=HONEST)
@pytest.mark.parametrize("name", ["float32", "float64"])
def test_honest_values_are_nothing_to_speak_of(array: Any, name: str) -> None:
    assert judged(w=values(array, name)) == []


@pytest.mark.parametrize(
    ("array", "code"),
    [
        (np.zeros((4, 4)), ("FM403", Level.WARNING)),
        (np.full((4, 4), 0.1), ("FM404", Level.WARNING)),
        (with_(normal(64, 64), (3, 3), 500.0), ("FM405", Level.WARNING)),
        (with_(normal(4, 4), (0, 0), -1e30), ("FM405", Level.WARNING)),
        (with_(normal(512, 1024), (slice(0, 3), 7), 1e4), ("FM405", Level.WARNING)),
        (values(with_(normal(20, 20), (1, 1), 1e200), "float64"), ("FM405", Level.WARNING)),
        (normal(64, 64) * 1e30, ("FM405", Level.WARNING)),
        (with_(normal(100, 8), 5, 0.0), ("FM406", Level.NOTE)),
        (with_(normal(100, 8), slice(0, 10), 0.0), ("FM406", Level.WARNING)),
        (with_(normal(100, 8), (0, 0), 1e-40), ("FM410", Level.NOTE)),
        (with_(normal(100, 8), (slice(0, 9), 0), 1e-40), ("FM410", Level.WARNING)),
        (with_(normal(4, 4), (0, 0), np.nan), ("FM401", Level.INVALID)),
        (with_(normal(4, 4), (0, 0), np.inf), ("FM402", Level.INVALID)),
        (np.triu(np.full((8, 8), -np.inf), 1), ("FM402", Level.WARNING)),
        (np.triu(np.full((8, 8), np.inf), 1), ("FM402", Level.INVALID)),
    ],
)
def test_each_kind_of_strange_values_has_its_finding(array: Any, code: tuple[str, Level]) -> None:
    assert codes(w=array, other=normal(4, 4)) == [code]


@pytest.mark.parametrize("huge", [1e200, 1e308])
def test_values_whose_squares_no_float_can_hold_are_judged(huge: float) -> None:
    judged(w=values([[huge, -huge, 1.0, 2.0, 3.0]] * 4, "float64"), v=values(np.full((3, 3), huge), "float64"))
    summary = values([huge, -huge], "float64").summary("w", None)
    assert (summary.maximum, summary.std) == (huge, None)


def test_a_tensor_of_finite_values_among_infinite_ones_is_judged() -> None:
    assert codes(w=with_(normal(8, 8), (0, 0), np.inf) * with_(np.ones((8, 8)), (1, 1), 1e9)) == [("FM402", Level.INVALID)]


def test_buffers_that_count_and_measure_are_judged_by_their_names() -> None:
    spread = [1.0, 0.5]
    assert codes(bn__running_var=spread, bn__num_batches_tracked=values(7, "int64"), bn__running_mean=[-1.0, 0.0]) == []
    assert codes(bn__running_var=[1.0, -0.5]) == [("FM407", Level.INVALID)]
    assert codes(bn__running_var=[1.0, 0.0]) == [("FM408", Level.WARNING)]
    assert codes(bn__num_batches_tracked=values(-3, "int64")) == [("FM409", Level.WARNING)]
    assert codes(my_running_variance=[-1.0]) == []


def test_one_finding_speaks_of_all_tensors_that_it_is_about() -> None:
    (finding,) = judged(a=np.zeros((2, 2)), b=normal(3, 3), c=np.zeros((5, 1)))
    assert (finding.code, finding.where, finding.evidence) == ("FM403", "a", "a: (2, 2); c: (5, 1)")
    assert "2 of 3 tensors" in finding.message


def test_the_largest_value_is_named_with_how_far_it_is_off() -> None:
    (finding,) = judged(w=with_(np.full((10, 10), 0.5) * RNG.choice([-1, 1], (10, 10)), (1, 1), -1000.0))
    assert finding.evidence == "w: ±1000, 2,000 times the usual"
    (finding,) = judged(w=values(with_(np.full((10, 10), 1e-150), (1, 1), 1e150), "float64"))
    assert finding.evidence == "w: ±1e+150, 1.0e+300 times the usual"


# What hides in low bits


TEXT = b"".join(b"%d: a line of text, %x long;\n" % (i, i * 7919) for i in range(9000))
PROGRAM = Path(np._core._multiarray_umath.__file__).read_bytes()[1 << 20 : 5 << 18]  # numpy's own; only read


def carrying(payload: bytes, low: int, name: str = "float32", count: int = 1 << 16) -> Values:
    """Weights whose `low` lowest bytes are the payload's, as far as it goes."""
    array = normal(count).astype(DTYPES[name].numpy)
    bits = array.view(np.uint8).reshape(count, -1)
    used = min(count, len(payload) // low)
    bits[:used, :low] = np.frombuffer(payload[: used * low], np.uint8).reshape(used, low)
    return values(array.reshape(256, -1), name)


# A program in three of four bytes leaves so little of the weights that whole values repeat, as they do in honest tables: not always seen.
@pytest.mark.parametrize("name", ["float32", "float64"])
@pytest.mark.parametrize(
    ("payload", "low"), [(TEXT, 1), (TEXT, 2), (TEXT, 3), (PROGRAM, 1), (PROGRAM, 2)], ids=lambda x: x if isinstance(x, int) else len(x)
)
def test_a_payload_in_the_low_bytes_is_flagged_with_its_statistic(payload: bytes, low: int, name: str) -> None:
    findings = judged(w=carrying(payload, low, name))
    assert [(f.code, f.level) for f in findings if f.code == "FM411"] == [("FM411", Level.WARNING)]
    assert "printable" in str(findings[-1].evidence)
    assert "by chance" in str(findings[-1].evidence)


def test_a_payload_further_back_in_a_large_tensor_is_flagged() -> None:
    array = np.concatenate([normal(1 << 20), np.frombuffer(TEXT * 8, np.uint8)[: 1 << 20] * 1.0])
    array = array.astype(np.float32)
    array[1 << 20 :] = normal(1 << 20)
    array.view(np.uint8).reshape(-1, 4)[1 << 20 :, 0] = np.frombuffer(TEXT * 8, np.uint8)[: 1 << 20]
    assert codes(w=values(array.reshape(1024, -1))) == [("FM411", Level.WARNING)]


def test_random_bytes_in_the_low_bits_cannot_be_told_from_weights() -> None:
    assert codes(w=carrying(RNG.bytes(1 << 16), 1)) == []
