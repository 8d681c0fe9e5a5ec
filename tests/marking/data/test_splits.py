from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from fifomark.marking.data.splits import drawn

X = np.arange(40, dtype=np.float32).reshape(20, 2)
Y = np.arange(20) % 2


def test_a_share_of_every_class_is_public() -> None:
    labels = np.repeat([0, 1, 2], [100, 50, 10])
    public = drawn(labels, 0.3, seed=1)
    assert [int(public[labels == label].sum()) for label in range(3)] == [30, 15, 3]


def test_the_share_is_kept_where_classes_are_smaller_than_it() -> None:
    assert drawn(np.arange(100), 0.25, seed=0).sum() == 25
    assert drawn(np.zeros((100, 3), np.int64), 0.29, seed=0).sum() == 29


def test_the_same_examples_are_drawn_by_every_version_for_ever() -> None:
    assert np.flatnonzero(drawn(np.zeros(20, np.int64), 0.25, seed=7)).tolist() == [0, 1, 3, 10, 17]


def test_within_a_class_the_order_is_that_of_the_documented_hash() -> None:
    order = sorted(range(20), key=lambda row: hashlib.sha256(f"7:{row}".encode()).digest())
    every_fourth = sorted(order[3::4])
    assert np.flatnonzero(drawn(np.zeros(20, np.int64), 0.25, seed=7)).tolist() == every_fourth


def test_another_seed_draws_others() -> None:
    labels = np.zeros(1000, np.int64)
    assert (drawn(labels, 0.5, 0) != drawn(labels, 0.5, 1)).sum() > 300


def test_every_example_is_in_one_split_and_in_the_order_of_the_data(load, tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=X, y=Y)
    public, private = load("d.npz", data="public = 0.3\nseed = 5").splits
    assert (public.name, private.name) == ("public", "private")
    assert len(public.labels) == 6
    rows = np.concatenate([split.inputs[0][:, 0] for split in (public, private)])
    assert sorted(rows) == X[:, 0].tolist()
    for split in (public, private):
        assert (np.diff(split.inputs[0][:, 0]) > 0).all()
        assert (split.labels == split.inputs[0][:, 0] // 2 % 2).all()


@pytest.mark.parametrize(
    "marks",
    [np.where(np.arange(20) < 5, "public", "private"), np.arange(20) < 5, (np.arange(20) < 5).astype(np.uint8)],
    ids=["text", "bool", "numbers"],
)
def test_an_array_may_say_what_is_public(load, tmp_path: Path, marks: np.ndarray) -> None:
    np.savez(tmp_path / "d.npz", x=X, y=Y, which=marks)
    public, private = load("d.npz", data='split = "which"').splits
    assert public.inputs[0].tolist() == X[:5].tolist()
    assert private.labels.tolist() == Y[5:].tolist()


@pytest.mark.parametrize(
    ("data", "marks", "key", "said"),
    [
        ('split = "which"', np.where(np.arange(20) == 7, "pubilc", "private"), "data.split", "which[7] is 'pubilc'"),
        ('split = "which"', np.where(np.arange(20) == 7, "pubilc", "private"), "data.split", "did you mean 'public'"),
        ('split = "which"', np.arange(20), "data.split", "which[2] is 2"),
        ('split = "which"', np.zeros(20), "data.split", "none of 20 examples public"),
        ('split = "which"', np.ones(20), "data.split", "none of 20 examples private"),
        ('split = "which"', np.ones(19), "data.split", "not one value for each of 20"),
        ('split = "whihc"', np.ones(20), "data.split", "did you mean 'which'"),
        ('split = "x"', np.ones(20), "data.input", "'x' is the split as well"),
        ('split = "which"\npublic = 0.5', np.ones(20), "data.public", "leave one of them out"),
        ("public = 0.01", np.ones(20), "data.public", "none of 20 examples public"),
        ("public = 1.0", np.ones(20), "data.public", "1.0"),
    ],
)
def test_a_split_that_is_none_is_refused(wrong, tmp_path: Path, data: str, marks: np.ndarray, key: str, said: str) -> None:
    np.savez(tmp_path / "d.npz", x=X, y=Y, which=marks)
    error = wrong("d.npz", data=data)
    assert error.key == key
    assert said in str(error)
