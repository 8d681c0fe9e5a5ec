from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fifomark.marking.data import csv_table

TABLE = "a,b,y\n1,2.5,0\n3,4,1\n-5e1,6,2\n"


def test_columns_stand_side_by_side_as_one_input(load, tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text(TABLE)
    (split,) = load("d.csv", data='input = ["b", "a"]').splits
    assert len(split.inputs) == 1
    assert split.inputs[0].tolist() == [[2.5, 1], [4, 3], [6, -50]]
    assert split.labels.tolist() == [0, 1, 2]


def test_without_a_word_every_column_is_an_input_but_label_and_split(load, tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text("a,which,y,b\n1,public,0,2\n3,private,1,4\n5,private,2,6\n")
    public, private = load("d.csv", data='split = "which"').splits
    assert public.inputs[0].tolist() == [[1, 2]]
    assert private.inputs[0].tolist() == [[3, 4], [5, 6]]


def test_as_many_columns_as_pixels_are_a_picture(load, tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text("p0,p1,p2,p3,y\n0,1,2,3,0\n4,5,6,7,1\n")
    (split,) = load("d.csv", input="shape = [1, 2, 2]").splits
    assert split.inputs[0].tolist() == [[[[0, 1], [2, 3]]], [[[4, 5], [6, 7]]]]


def test_columns_may_be_the_tokens_of_a_sequence(load, wrong, tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text("t0,t1,t2,y\n5,6,7,0\n8,9,3,1\n")
    tokens = 'shape = [{}]\ndtype = "int64"\npad = 0'
    assert load("d.csv", input=tokens.format(4)).splits[0].inputs[0].tolist() == [[5, 6, 7, 0], [8, 9, 3, 0]]
    assert "room for 2 where line 2, column 't0' has 3" in str(wrong("d.csv", input=tokens.format(2)))


def test_a_table_longer_than_a_chunk_is_read_whole(load, wrong, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_table, "_CHUNK", 7)
    rows = [f"{i},{i / 2},c{i % 3}" for i in range(50)]
    (tmp_path / "d.csv").write_text("\n".join(["a,b,y", *rows]))
    (split,) = load("d.csv", task='num_classes = 3\nclass_names = ["c0", "c1", "c2"]').splits
    assert split.inputs[0].tolist() == [[i, i / 2] for i in range(50)]
    assert split.labels.tolist() == [i % 3 for i in range(50)]
    rows[40] = "40,?,c0"
    (tmp_path / "d.csv").write_text("\n".join(["a,b,y", *rows]))
    assert "line 42, column 'b' is '?', expected a number" in str(wrong("d.csv"))


def test_what_a_spreadsheet_writes_is_read(load, tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_bytes(b'\xef\xbb\xbf"a","b","y"\r\n1,2,0\r\n\r\n"3",4,1\r\n')
    (split,) = load("d.csv").splits
    assert split.inputs[0].tolist() == [[1, 2], [3, 4]]


def test_names_that_look_like_numbers_stay_names(load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_table, "_CHUNK", 1)
    (tmp_path / "d.csv").write_text("a,b,y\n1,2,01\n3,4,1\n5,6,x\n")
    (split,) = load("d.csv", task='num_classes = 3\nclass_names = ["x", "1", "01"]').splits
    assert split.labels.tolist() == [2, 1, 0]


@pytest.mark.parametrize(
    ("text", "data", "key", "said"),
    [
        ("", "", "data.label", "no column 'y'"),
        ("a,b,y\n", "", "data.input", "empty"),
        ("y\n1\n", "", "data.input", "no column but the label"),
        ("a;b;y\n1;2;0\n", "", "data.path", "has ';' between its columns"),
        ("a,a,y\n1,2,0\n", "", "data.path", "two columns 'a'"),
        (",a,b,y\n0,1,2,0\n", "", "data.input", "one column has no name"),
        ("a,b,y\n1,2,0\n1,2\n", "", "data.path", "line 3 has 2 columns"),
        ("a,b,y\n1,2,0\n1,,0\n", "", "data.input", "line 3, column 'b' is ''"),
        ("a,b,y\n1,2,0\n1,x,0\n", "", "data.input", "name the inputs in data.input"),
        ("a,b,y\n1,2,0\n1,nan,0\n", "", "data.input", "NaN or Inf: line 3, column 'b' is nan"),
        ("a,b,y\n1,2,0\n1,1e999,0\n", "", "data.input", "line 3, column 'b' is inf"),
        ("a,b,label\n1,2,0\n", 'label = "lable"', "data.label", "did you mean 'label'"),
        ("a,b,label\n1,2,0\n", "", "data.label", "known here: a, b, label"),
        ("a,b,y\n1,2,0\n1,2,3\n", "", "data.label", "line 3, column 'y' is 3"),
        ("a,b,y\n1,2,0\n1,2,0.5\n", "", "data.label", "from 0.0 to 0.5: line 3, column 'y' is 0.5"),
        ("a,b,y\n1,2,cat\n", "", "data.label", "task.class_names"),
        ('a,b,y\n1,"2,0\n', "", "data.path", "cannot be read"),
        ("a,b,c,y\n1,2,3,0\n", "", "input.shape", "is [2] where there are 3 inputs, from 'a' to 'c'"),
    ],
)
def test_what_is_wrong_in_a_table_is_named(wrong, tmp_path: Path, text: str, data: str, key: str, said: str) -> None:
    (tmp_path / "d.csv").write_text(text)
    error = wrong("d.csv", data=data)
    assert error.key == key
    assert said in str(error)


def test_text_that_is_no_utf8_is_refused(wrong, tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_bytes("a,b,y\n1,2,0\n".encode("utf-16"))
    assert wrong("d.csv").key == "data.path"


def test_of_hundreds_of_columns_a_few_are_told(wrong, tmp_path: Path) -> None:
    names = [f"pixel{i}" for i in range(784)]
    (tmp_path / "d.csv").write_text(",".join(names) + "\n" + ",".join(["0"] * 784) + "\n")
    assert str(wrong("d.csv")).endswith("pixel11 and 772 more)")


def test_numbers_are_held_as_numbers(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text("a,b\n1,2\n3,4.5\n")
    table = csv_table.CsvTable(tmp_path / "d.csv")
    assert {name: values.dtype for name, values in table.read(["a", "b"]).items()} == {"a": np.int64, "b": np.float64}
