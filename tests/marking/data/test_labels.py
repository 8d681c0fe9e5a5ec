from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

X = np.zeros((4, 2), np.float32)
IDS = np.arange(12).reshape(4, 3)
TOKENS = 'shape = [3]\ndtype = "int64"'
BINARY = 'type = "binary-classification"'
BITS = 'type = "multilabel-classification"\nnum_classes = 3'
NUMBERS = 'type = "regression"'
TAGS = 'type = "token-classification"\nnum_classes = 3'
LANGUAGE = 'type = "language-model"\nnum_classes = 12'


@pytest.mark.parametrize(
    ("task", "labels", "wanted"),
    [
        ("num_classes = 3", np.array([0, 1, 2, 0], np.uint8), [0, 1, 2, 0]),
        ("num_classes = 3", np.array([0.0, 1.0, 2.0, 0.0]), [0, 1, 2, 0]),
        ('num_classes = 2\nclass_names = ["cat", "dog"]', np.array(["dog", "cat", "dog", "dog"]), [1, 0, 1, 1]),
        (BINARY, np.array([0, 1, 1, 0]), [0, 1, 1, 0]),
        (BINARY, np.array([0.0, 1.0, 1.0, 0.0]), [0, 1, 1, 0]),
        (BINARY, np.array([False, True, True, False]), [0, 1, 1, 0]),
        (BINARY + '\nclass_names = ["ham", "spam"]', np.array(["ham", "spam", "ham", "ham"]), [0, 1, 0, 0]),
        (BITS, np.eye(4, 3), [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]]),
        (NUMBERS, np.array([1, 2, 3, 4]), [[1], [2], [3], [4]]),
        (NUMBERS, np.array([[0.5], [1], [2], [3]]), [[0.5], [1], [2], [3]]),
        (NUMBERS + "\ntargets = 2", np.arange(8.0).reshape(4, 2), [[0, 1], [2, 3], [4, 5], [6, 7]]),
    ],
)
def test_labels_are_as_the_task_has_them(load, tmp_path: Path, task: str, labels: np.ndarray, wanted: list[object]) -> None:
    np.savez(tmp_path / "d.npz", x=X, y=labels)
    (split,) = load("d.npz", task=task).splits
    assert split.labels.tolist() == wanted
    assert split.labels.dtype == (np.float32 if task.startswith(NUMBERS) else np.int64)


@pytest.mark.parametrize(
    ("task", "labels", "said"),
    [
        ("num_classes = 3", np.array([0, 1, 3, 4]), "labels from 0 to 4: y[2] is 3 (3 classes are labelled 0 to 2)"),
        ("num_classes = 3", np.array([0, -1, 2, 0]), "y[1] is -1"),
        ("num_classes = 3", np.array([0, 1, -100, 0]), "y[2] is -100"),
        ("num_classes = 3", np.array(["0", "1", "x", "0"]), "y[2] is 'x', expected a whole number (say which class"),
        ('num_classes = 2\nclass_names = ["cat", "dog"]', np.array(["cat", "dgo", "a", "b"]), "y[1] is 'dgo', and no such class (did you"),
        ("num_classes = 3", np.array([0, 1, 2, 0], complex), "complex128"),
        (BINARY, np.array([0, 1, 2, 0]), "y[2] is 2 (2 classes are labelled 0 to 1)"),
        ("num_classes = 3", np.array([0, 1.5, 2, 0]), "y[1] is 1.5"),
        (BINARY, np.array([0, 0.5, 1, 0]), "y[1] is 0.5"),
        (BINARY, np.array([0, np.nan, 1, 0]), "y[1] is nan"),
        (BITS, np.array([0, 1, 2, 0]), "expected (4, 3): a 0 or 1 for each class"),
        (BITS, np.eye(4, 4), "shape (4, 4), expected (4, 3)"),
        (BITS, np.eye(4, 3) * 2, "y[0][0] is 2.0"),
        (NUMBERS, np.array([1, np.nan, 3, 4]), "y[1] is nan"),
        (NUMBERS, np.array([1, 1e300, 3, 4]), "y[1] is 1e+300"),
        (NUMBERS, np.array([1, 2, 3]), "3 labels, expected (4, 1)"),
        (NUMBERS + "\ntargets = 2", np.array([1, 2, 3, 4]), "expected (4, 2): a number for each target"),
        (NUMBERS, np.array(["1", "2", "?", "4"]), "y[2] is '?', expected a number"),
    ],
)
def test_a_label_that_no_class_has_is_named_by_its_place(wrong, tmp_path: Path, task: str, labels: np.ndarray, said: str) -> None:
    np.savez(tmp_path / "d.npz", x=X, y=labels)
    error = wrong("d.npz", task=task)
    assert error.key == "data.label"
    assert said in str(error)


def test_columns_of_bits_stand_side_by_side(load, wrong, tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text("a,b,cat,dog,cow\n1,2,0,1,1\n3,4,1,0,0\n")
    (split,) = load("d.csv", task=BITS, data='label = ["cat", "dog", "cow"]').splits
    assert split.labels.tolist() == [[0, 1, 1], [1, 0, 0]]
    assert split.inputs[0].tolist() == [[1, 2], [3, 4]]
    (tmp_path / "d.csv").write_text("a,b,cat,dog,cow\n1,2,0,1,1\n3,4,1,0,7\n")
    assert "line 3, column 'cow' is 7" in str(wrong("d.csv", task=BITS, data='label = ["cat", "dog", "cow"]'))


@pytest.mark.parametrize("names", [False, True])
def test_each_token_has_a_label_and_what_fills_up_does_not_count(load, tmp_path: Path, names: bool) -> None:
    labels: list[list[object]] = [["O", "B", "I"], ["B"]] if names else [[0, 1, 2], [1]]
    rows = [{"x": [5, 6, 7], "y": labels[0]}, {"x": [8], "y": labels[1]}]
    (tmp_path / "d.jsonl").write_text("\n".join(map(json.dumps, rows)))
    task = TAGS + '\nclass_names = ["O", "B", "I"]'
    (split,) = load("d.jsonl", task=task, input='shape = [4]\ndtype = "int64"\npad = 0').splits
    assert split.inputs[0].tolist() == [[5, 6, 7, 0], [8, 0, 0, 0]]
    assert split.labels.tolist() == [[0, 1, 2, -100], [1, -100, -100, -100]]


def test_labels_of_one_length_are_filled_up_with_their_tokens(load, tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=IDS, y=IDS % 3)
    (split,) = load("d.npz", task=TAGS, input='shape = [5]\ndtype = "int64"\npad = 0').splits
    assert split.labels[:, :3].tolist() == (IDS % 3).tolist()
    assert (split.labels[:, 3:] == -100).all()


def test_positions_that_the_data_itself_ignores_stay_ignored(load, tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=IDS, y=np.where(IDS % 3 == 0, -1, IDS % 3))
    (split,) = load("d.npz", task=TAGS + "\nignore_label = -1", input=TOKENS).splits
    assert (split.labels[:, 0] == -1).all()


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (IDS, "y[1][0] is 3"),
        (IDS[:, :2] % 3, "shape (4, 2), expected (4, 3): one label for each token"),
        (IDS[:, 0] % 3, "shape (4,), expected (4, 3)"),
        (np.full((4, 3), -100), "every label is -100"),
    ],
)
def test_labels_of_tokens_that_do_not_fit_are_refused(wrong, tmp_path: Path, labels: np.ndarray, said: str) -> None:
    np.savez(tmp_path / "d.npz", x=IDS, y=labels)
    assert said in str(wrong("d.npz", task=TAGS, input=TOKENS))


def test_sequences_may_have_their_channels_first(load, tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=np.zeros((4, 2, 3), np.float32), y=IDS % 3)
    assert load("d.npz", task=TAGS, input="shape = [2, 3]").splits[0].labels.tolist() == (IDS % 3).tolist()


def test_a_sequence_with_fewer_labels_than_tokens_is_named(wrong, tmp_path: Path) -> None:
    rows = [{"x": [5, 6, 7], "y": [0, 1, 2]}, {"x": [8, 9], "y": [1]}]
    (tmp_path / "d.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert "line 2, column 'y' has 1 labels for 2 tokens" in str(wrong("d.jsonl", task=TAGS, input=TOKENS + "\npad = 0"))


def test_a_language_model_may_be_given_its_labels(load, tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=IDS, y=IDS[:, ::-1])
    (split,) = load("d.npz", task=LANGUAGE, input=TOKENS).splits
    assert split.labels.tolist() == IDS[:, ::-1].tolist()


def test_without_labels_a_language_model_is_to_say_the_next_token(load, tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=IDS)
    (split,) = load("d.npz", task=LANGUAGE, input=TOKENS).splits
    assert split.inputs[0].tolist() == IDS.tolist()
    assert split.labels.tolist() == [[1, 2, -100], [4, 5, -100], [7, 8, -100], [10, 11, -100]]


def test_with_one_token_more_the_last_position_counts_too(load, tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=IDS)
    (split,) = load("d.npz", task=LANGUAGE, input='shape = [2]\ndtype = "int64"').splits
    assert split.inputs[0].tolist() == IDS[:, :2].tolist()
    assert split.labels.tolist() == IDS[:, 1:].tolist()


def test_what_fills_up_is_no_next_token(load, tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_text('{"ids": [5, 0, 7]}\n{"ids": [8, 9]}\n{"ids": [0]}\n')
    (split,) = load("d.jsonl", task=LANGUAGE, input=TOKENS + "\npad = 0").splits
    assert split.inputs[0].tolist() == [[5, 0, 7], [8, 9, 0], [0, 0, 0]]
    assert split.labels.tolist() == [[0, 7, -100], [9, -100, -100], [-100, -100, -100]]
    np.savez(tmp_path / "d.npz", x=np.array([[5, 0, 7], [8, 9, 0], [0, 0, 0]]))  # as long as each other: filled up before
    (same,) = load("d.npz", task=LANGUAGE, input=TOKENS + "\npad = 0").splits
    assert same.labels.tolist() == split.labels.tolist()


def test_a_token_that_looks_like_filling_counts_where_lengths_are_known(load, tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_text('{"ids": [5, 0, 7]}\n{"ids": [8, 0]}\n')
    (split,) = load("d.jsonl", task=LANGUAGE, input=TOKENS + "\npad = 0").splits
    assert split.labels.tolist() == [[0, 7, -100], [0, -100, -100]]


@pytest.mark.parametrize(
    ("task", "ids", "input", "data", "key", "said"),
    [
        ('type = "language-model"\nnum_classes = 5', IDS, TOKENS, "", "data.label", "x[1][2] is 5"),
        (LANGUAGE, IDS, "shape = [3]", "", "data.label", "where its dtype is int64"),
        (LANGUAGE, IDS, 'shape = [1]\ndtype = "int64"', "", "input.shape", "room for 2"),
        (LANGUAGE, IDS, 'shape = [5]\ndtype = "int64"', "", "input.pad", "x[0] has 3 of 5"),
        (LANGUAGE, IDS, TOKENS, 'label = "next"', "data.label", "no array 'next'"),
        (LANGUAGE, IDS[:, :, None], TOKENS, "", "input.shape", "(3, 1)"),
        (TAGS, IDS, TOKENS, "", "data.label", "no array 'y'"),
    ],
)
def test_next_tokens_that_cannot_be_are_refused(
    wrong, tmp_path: Path, task: str, ids: np.ndarray, input: str, data: str, key: str, said: str
) -> None:
    np.savez(tmp_path / "d.npz", x=ids)
    error = wrong("d.npz", task=task, input=input, data=data)
    assert error.key == key
    assert said in str(error)
