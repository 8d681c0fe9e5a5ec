from __future__ import annotations

import json
from pathlib import Path

import pytest

TOKENS = 'shape = [4]\ndtype = "int64"'


def write(folder: Path, *rows: object) -> None:
    (folder / "d.jsonl").write_text("\n".join(json.dumps(row) for row in rows))


def test_numbers_stand_side_by_side(load, tmp_path: Path) -> None:
    write(tmp_path, {"a": 1, "b": 2.5, "y": 0}, {"y": 1, "b": 4, "a": 3})
    (split,) = load("d.jsonl").splits
    assert split.inputs[0].tolist() == [[1, 2.5], [3, 4]]


def test_lists_are_an_argument_each_and_may_be_nested(load, tmp_path: Path) -> None:
    write(tmp_path, {"x": [[1, 2], [3, 4]], "z": [5, 6, 7, 8], "y": 0}, {"x": [[0, 0], [0, 1]], "z": [0, 0, 0, 0], "y": 1})
    input = "shape = [1, 2, 2]\n[[input.more]]\nshape = [4]"
    (split,) = load("d.jsonl", data='input = ["x", "z"]', input=input).splits
    assert split.inputs[0].tolist() == [[[[1, 2], [3, 4]]], [[[0, 0], [0, 1]]]]
    assert split.inputs[1].tolist() == [[5, 6, 7, 8], [0, 0, 0, 0]]


def test_shorter_sequences_are_filled_up(load, tmp_path: Path) -> None:
    write(tmp_path, {"ids": [5, 6, 7], "y": 0}, {"ids": [], "y": 1}, {"ids": [1, 2, 3, 4], "y": 2})
    (split,) = load("d.jsonl", input=TOKENS + "\npad = 9").splits
    assert split.inputs[0].tolist() == [[5, 6, 7, 9], [9, 9, 9, 9], [1, 2, 3, 4]]


def test_sequences_of_one_length_are_filled_up_as_well(load, tmp_path: Path) -> None:
    write(tmp_path, {"x": [5, 6], "y": 0}, {"x": [1, 2], "y": 1})
    (split,) = load("d.jsonl", input=TOKENS + "\npad = 0").splits
    assert split.inputs[0].tolist() == [[5, 6, 0, 0], [1, 2, 0, 0]]


def test_a_mask_is_filled_up_with_its_own_number(load, tmp_path: Path) -> None:
    write(tmp_path, {"ids": [5, 6, 7], "mask": [1, 1, 1], "y": 0}, {"ids": [8], "mask": [1], "y": 1})
    input = TOKENS + '\npad = 3\n[[input.more]]\nshape = [4]\ndtype = "int64"\npad = 0'
    (split,) = load("d.jsonl", input=input, data='input = ["ids", "mask"]').splits
    assert [argument.tolist() for argument in split.inputs] == [[[5, 6, 7, 3], [8, 3, 3, 3]], [[1, 1, 1, 0], [1, 0, 0, 0]]]


@pytest.mark.parametrize(
    ("rows", "input", "key", "said"),
    [
        ([{"x": [1, 2], "y": 0}, {"x": [1, 2, 3], "y": 0}], TOKENS, "input.pad", "line 1, column 'x' has 2 of 4"),
        ([{"x": [1, 2], "y": 0}, {"x": [1, 2, 3], "y": 0}], TOKENS, "input.pad", "pad = 0"),
        ([{"x": [1], "y": 0}, {"x": [1] * 5, "y": 0}], TOKENS + "\npad = 0", "input.shape", "room for 4 where line 2, column 'x' has 5"),
        ([{"x": [1] * 5, "y": 0}], TOKENS + "\npad = 0", "input.shape", "room for 4"),
        ([{"x": [1, 2], "y": 0}, {"x": [1, -1], "y": 0}], TOKENS + "\npad = 0", "data.input", "is -1, and no token has a number below 0"),
        ([{"x": [1.5, 2], "y": 0}, {"x": [1], "y": 0}], TOKENS + "\npad = 0", "input.dtype", "float64"),
        ([{"x": [1, 2], "y": 0}, {"x": [1], "y": 0}], "shape = [2]", "input.shape", "differ in length"),
        ([{"x": ["a", "b"], "y": 0}], TOKENS, "data.input", "line 1, column 'x'[0] is 'a'"),
        ([{"x": [1, 2], "y": 0}, {"x": [1, 2]}], "shape = [2]", "data.path", "line 2 has no 'y'"),
        ([{"x": [1, 2], "y": 0}, {"x": 1, "y": 0}], "shape = [2]", "data.path", "line 2, column 'x' is a number, line 1"),
        ([{"x": [1, 2], "y": 0}, {"x": None, "y": 0}], "shape = [2]", "data.path", "line 2, column 'x' is neither"),
        ([{"x": [1, [2]], "y": 0}], "shape = [2]", "data.path", "lists of different length"),
        ([{"x": [[1], [2]], "y": 0}, {"x": [1], "y": 0}], "shape = [2]", "data.path", "only lengths may differ"),
        ([{"x": [1, 2], "y": 0}, [1, 2]], "shape = [2]", "data.path", "line 2 is no JSON object"),
        ([{"x": [1, 2], "y": 0}, {"x": [1, 2], "y": "a"}], "shape = [2]", "data.path", "line 2, column 'y' is text"),
        ([{"ids": [1, 2], "labels": [1, 2], "y": 0}], "shape = [2]", "data.input", "name those that the model gets"),
        ([{"x": [10**30, 2], "y": 0}], "shape = [2]", "data.path", "line 1, column 'x'"),
        ([], "shape = [2]", "data.label", "known here: nothing"),
    ],
)
def test_what_is_wrong_in_a_line_is_named(wrong, tmp_path: Path, rows: list[object], input: str, key: str, said: str) -> None:
    write(tmp_path, *rows)
    error = wrong("d.jsonl", input=input)
    assert error.key == key
    assert said in str(error)


def test_nan_is_no_json_and_lines_count_with_the_empty_ones(wrong, tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_text('{"x": [1, 2], "y": 0}\n\n{"x": [NaN, 1], "y": 0}\n')
    assert "line 3 is no JSON object" in str(wrong("d.jsonl"))
    (tmp_path / "d.jsonl").write_text('{"x": [1, 2], "y": 0}\n\n{"x": [1, 1], "y": 7}\n')
    assert "line 3, column 'y' is 7" in str(wrong("d.jsonl"))
