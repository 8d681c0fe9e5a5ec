from __future__ import annotations

import numpy as np
import pytest

from fifomark.core.errors import ConfigError
from fifomark.marking.data import load_data
from fifomark.marking.rubric import load_rubric

X = np.zeros((6, 4), np.float32)
Y = np.arange(6) % 3


def loaded(folder):
    return load_data(folder, load_rubric(folder))


@pytest.mark.parametrize(
    ("arrays", "key", "said"),
    [
        ({"x": X, "y": Y + 5}, "data.label", "labels from 5 to 7"),
        ({"x": X, "y": Y - 1}, "data.label", "labels from -1 to 1"),
        ({"x": X, "y": Y[:5]}, "data.label", "expected (6,)"),
        ({"x": X, "y": Y[:, None]}, "data.label", "expected (6,)"),
        ({"x": X, "y": Y + 0.5}, "data.label", "y[0] is 0.5"),
        ({"x": X[:0], "y": Y[:0]}, "data.input", "empty"),
        ({"x": np.zeros((6, 5), np.float32), "y": Y}, "input.shape", "(5,)"),
        ({"x": X.astype(complex), "y": Y}, "data.input", "complex128"),
        ({"x": np.full((6, 4), np.nan), "y": Y}, "data.input", "NaN"),
        ({"x": np.full((6, 4), None), "y": Y}, "data.path", "no objects"),
    ],
)
def test_data_that_cannot_give_a_true_mark_is_refused(write_rubric, arrays, key: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(write_rubric(**arrays))
    assert caught.value.key == key
    assert said in str(caught.value)


def test_an_array_that_is_not_there_is_named_with_the_nearest(write_rubric) -> None:
    folder = write_rubric('input = "x_tset"', x_test=X)
    with pytest.raises(ConfigError, match="did you mean 'x_test'"):
        loaded(folder)


def test_a_single_array_is_no_data_set(write_rubric, tmp_path) -> None:
    folder = write_rubric()
    rubric = load_rubric(folder)
    with open(folder / "toy.npz", "wb") as file:
        np.save(file, X)
    with pytest.raises(ConfigError, match="does not match"):
        load_data(folder, rubric)
    with pytest.raises(ConfigError, match="the data has ") as caught:
        load_rubric(folder)
    sha256 = str(caught.value).split("the data has ")[1][:64]
    text = (folder / "rubric.toml").read_text()
    (folder / "rubric.toml").write_text(text.replace(rubric.data.sha256, sha256))
    with pytest.raises(ConfigError, match=r"is no \.npz"):
        loaded(folder)


def test_one_number_for_all_needs_no_list(write_rubric) -> None:
    x = np.random.default_rng(0).normal(size=(6, 2, 3, 3)).astype(np.float32)

    def given(written: str) -> np.ndarray:
        return loaded(write_rubric(changes={"shape = [4]": f"shape = [2, 3, 3]\n{written}"}, x=x, y=Y)).splits[0].inputs[0]

    one = given("mean = 0.5\nstd = 2")
    assert np.array_equal(one, (x - np.float32(0.5)) / np.float32(2))
    assert np.array_equal(one, given("mean = [0.5]\nstd = [2]"))


def test_inputs_are_scaled_and_normalised_along_the_first_axis(write_rubric) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 2, 3, 3), np.uint8)
    shape = "shape = [2, 3, 3]\nscale = 0.5\nmean = [1.0, 2.0]\nstd = [2.0, 4.0]"
    data = loaded(write_rubric(x=pixels, y=Y, changes={"shape = [4]": shape}))
    assert data.splits[0].inputs[0].dtype == np.float32
    np.testing.assert_allclose(data.splits[0].inputs[0][:, 0], (pixels[:, 0] * 0.5 - 1) / 2)
    np.testing.assert_allclose(data.splits[0].inputs[0][:, 1], (pixels[:, 1] * 0.5 - 2) / 4)


def test_an_axis_of_length_one_may_be_missing_in_the_data(write_rubric) -> None:
    data = loaded(write_rubric(x=np.zeros((6, 8, 8), np.uint8), y=Y, changes={"shape = [4]": "shape = [1, 8, 8]"}))
    assert data.splits[0].inputs[0].shape == (6, 1, 8, 8)


def test_token_ids_stay_whole_numbers(write_rubric) -> None:
    data = loaded(write_rubric(x=np.ones((6, 4), np.int32), y=Y, changes={"shape = [4]": 'shape = [4]\ndtype = "int64"'}))
    assert data.splits[0].inputs[0].dtype == np.int64


def test_a_hash_may_be_written_in_capitals(write_rubric) -> None:
    folder = write_rubric()
    sha256 = load_rubric(folder).data.sha256
    text = (folder / "rubric.toml").read_text()
    (folder / "rubric.toml").write_text(text.replace(sha256, sha256.upper()))
    assert loaded(folder).sha256 == sha256
