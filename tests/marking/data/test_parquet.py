from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

Y = pa.array([0, 1, 2])


def write(folder: Path, **columns: object) -> None:
    pq.write_table(pa.table(columns), folder / "d.parquet", row_group_size=2)


def test_numbers_stand_side_by_side(load, tmp_path: Path) -> None:
    write(tmp_path, a=pa.array([1, 2, 3], pa.int8()), b=pa.array([0.5, 1.5, 2.5], pa.float32()), y=Y)
    (split,) = load("d.parquet").splits
    assert split.inputs[0].tolist() == [[1, 0.5], [2, 1.5], [3, 2.5]]


@pytest.mark.parametrize("type", [pa.list_(pa.float64()), pa.large_list(pa.float32()), pa.list_(pa.float16(), 2)], ids=str)
def test_lists_are_an_input_whatever_their_kind(load, tmp_path: Path, type: pa.DataType) -> None:
    write(tmp_path, x=pa.array([[np.float16(1), np.float16(2)], [3, 4], [5, 6]], type), y=Y)
    (split,) = load("d.parquet").splits
    assert split.inputs[0].tolist() == [[1, 2], [3, 4], [5, 6]]


def test_lists_of_lists_are_pictures(load, tmp_path: Path) -> None:
    write(tmp_path, x=pa.array([[[1, 2], [3, 4]]] * 3), y=Y)
    (split,) = load("d.parquet", input="shape = [1, 2, 2]").splits
    assert split.inputs[0].shape == (3, 1, 2, 2)


def test_shorter_sequences_are_filled_up(load, tmp_path: Path) -> None:
    write(tmp_path, x=pa.array([[5], [], [1, 2, 3]]), y=Y)
    (split,) = load("d.parquet", input='shape = [3]\ndtype = "int64"\npad = 0').splits
    assert split.inputs[0].tolist() == [[5, 0, 0], [0, 0, 0], [1, 2, 3]]


@pytest.mark.parametrize("dictionary", [False, True])
def test_classes_may_be_named(load, tmp_path: Path, dictionary: bool) -> None:
    names = pa.array(["dog", "cat", "dog"])
    write(tmp_path, x=pa.array([[1.0, 2.0]] * 3), y=names.dictionary_encode() if dictionary else names)
    (split,) = load("d.parquet", task='num_classes = 2\nclass_names = ["cat", "dog"]').splits
    assert split.labels.tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    ("columns", "key", "said"),
    [
        ({"x": pa.array([[1.0, 2.0]] * 3), "y": pa.array([0, None, 1])}, "data.path", "row 1 (from 0), column 'y' is empty"),
        ({"x": pa.array([[1.0, 2.0], [1.0], [None, 2.0]]), "y": Y}, "data.path", "row 2 (from 0), column 'x' holds an empty value"),
        ({"x": pa.array([[1.0, 2.0], [1.0, float("nan")], [1.0, 1.0]]), "y": Y}, "data.input", "row 1 (from 0), column 'x'[1] is nan"),
        ({"x": pa.array([[1.0, 2.0]] * 3), "y": pa.array([0, 1, 3])}, "data.label", "row 2 (from 0), column 'y' is 3"),
        ({"x": pa.array([b"a", b"b", b"c"]), "y": Y}, "data.path", "binary"),
        ({"x": pa.array([[[1.0], [2.0]], [[1.0]], [[1.0]]]), "y": Y}, "data.path", "only lengths may differ"),
        ({"x": pa.array([], pa.list_(pa.int64())), "y": pa.array([], pa.int64())}, "data.input", "empty"),
        ({"x": pa.array([["a", "b"]] * 3), "y": Y}, "data.input", "column 'x'[0] is 'a'"),
    ],
)
def test_what_is_wrong_in_a_table_is_named(wrong, tmp_path: Path, columns: dict[str, pa.Array], key: str, said: str) -> None:
    write(tmp_path, **columns)
    error = wrong("d.parquet")
    assert error.key == key
    assert said in str(error)


@pytest.mark.parametrize("body", [b"", b"PAR1", b"PAR1" + bytes(100) + b"PAR1"])
def test_what_is_no_parquet_is_said_to_be_none(wrong, tmp_path: Path, body: bytes) -> None:
    (tmp_path / "d.parquet").write_bytes(body)
    assert "cannot be read as Parquet" in str(wrong("d.parquet"))


def test_without_the_library_it_is_said_how_to_get_it(wrong, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, x=pa.array([[1.0, 2.0]] * 3), y=Y)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    error = wrong("d.parquet")
    assert "pyarrow" in str(error)
    assert "pip install 'fifomark[data]'" in str(error)
