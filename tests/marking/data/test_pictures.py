from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

TWO = "num_classes = 2"
GREY, COLOUR = "shape = [1, 4, 6]", "shape = [3, 4, 6]"


def picture(path: Path, value: object = 7, *, mode: str = "L", size: tuple[int, int] = (6, 4)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value).save(path)  # type: ignore[arg-type]


def cats_and_dogs(folder: Path) -> None:
    picture(folder / "pets" / "dog" / "1.png", 1)
    picture(folder / "pets" / "cat" / "b.png", 3)
    picture(folder / "pets" / "cat" / "A.PNG", 2)


def test_classes_are_folders_in_the_order_of_their_names(load, tmp_path: Path) -> None:
    cats_and_dogs(tmp_path)
    (split,) = load("pets", task=TWO, input=GREY).splits
    assert split.inputs[0].shape == (3, 1, 4, 6)
    assert split.inputs[0][:, 0, 0, 0].tolist() == [2, 3, 1]
    assert split.labels.tolist() == [0, 0, 1]


def test_class_names_give_the_order(load, tmp_path: Path) -> None:
    cats_and_dogs(tmp_path)
    (split,) = load("pets", task=TWO + '\nclass_names = ["dog", "cat"]', input=GREY).splits
    assert split.labels.tolist() == [1, 1, 0]


def test_pictures_are_two_classes_of_a_binary_task(load, tmp_path: Path) -> None:
    cats_and_dogs(tmp_path)
    (split,) = load("pets", task='type = "binary-classification"', input=GREY).splits
    assert split.labels.tolist() == [0, 0, 1]


def test_channels_come_first_and_sizes_are_made_equal(load, tmp_path: Path) -> None:
    picture(tmp_path / "pets" / "cat" / "small.png", (10, 20, 30), mode="RGB", size=(3, 2))
    picture(tmp_path / "pets" / "dog" / "large.jpg", 50, size=(12, 9))
    (split,) = load("pets", task=TWO, input=COLOUR + "\nscale = 0.1").splits
    assert split.inputs[0].shape == (2, 3, 4, 6)
    np.testing.assert_allclose(split.inputs[0][0, :, 1, 1], [1, 2, 3], rtol=1e-6)
    np.testing.assert_allclose(split.inputs[0][1], 5, rtol=1e-6)


def test_rows_are_the_height(load, tmp_path: Path) -> None:
    (tmp_path / "pets" / "cat").mkdir(parents=True)
    pixels = np.arange(24, dtype=np.uint8).reshape(4, 6)
    Image.fromarray(pixels).save(tmp_path / "pets" / "cat" / "1.png")
    picture(tmp_path / "pets" / "dog" / "1.png")
    (split,) = load("pets", task=TWO, input="shape = [4, 6]").splits
    assert split.inputs[0][0].tolist() == pixels.tolist()


def test_what_a_desktop_leaves_behind_is_no_picture(load, tmp_path: Path) -> None:
    cats_and_dogs(tmp_path)
    (tmp_path / "pets" / "cat" / ".DS_Store").write_bytes(b"x")
    (tmp_path / "pets" / "README.md").write_text("cats and dogs")
    (tmp_path / "pets" / "empty").mkdir()
    assert len(load("pets", task=TWO, input=GREY).splits[0].labels) == 3


@pytest.mark.parametrize(
    ("said_of_task", "input", "key", "said"),
    [
        ("num_classes = 3", GREY, "task.num_classes", "is 3 where there are 2 folders with pictures (found cat, dog)"),
        (TWO + '\nclass_names = ["cat", "dogs"]', GREY, "task.class_names", "folder 'dog', and no such class (did you mean 'dogs'?)"),
        ('num_classes = 3\nclass_names = ["cat", "dog", "cow"]', GREY, "task.class_names", "no pictures of class 'cow'"),
        ('type = "regression"', GREY, "data.format", "the task is regression"),
        (TWO, "shape = [24]", "input.shape", "expected that of a picture"),
        (TWO, "shape = [2, 4, 6]", "input.shape", "1, 3 or 4 channels"),
    ],
)
def test_a_folder_that_does_not_fit_is_refused(wrong, tmp_path: Path, said_of_task: str, input: str, key: str, said: str) -> None:
    cats_and_dogs(tmp_path)
    error = wrong("pets", task=said_of_task, input=input)
    assert error.key == key
    assert said in str(error)


def test_what_is_no_picture_is_named(wrong, tmp_path: Path) -> None:
    cats_and_dogs(tmp_path)
    (tmp_path / "pets" / "cat" / "notes.txt").write_text("a cat")
    assert "cat/notes.txt cannot be read as a picture" in str(wrong("pets", task=TWO, input=GREY))


def test_half_a_picture_is_named(wrong, tmp_path: Path) -> None:
    cats_and_dogs(tmp_path)
    path = tmp_path / "pets" / "dog" / "1.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:-2000])
    assert "dog/1.png cannot be read as a picture" in str(wrong("pets", task=TWO, input=GREY))


def test_sixteen_bits_are_not_cut_off_at_255(wrong, tmp_path: Path) -> None:
    cats_and_dogs(tmp_path)
    Image.fromarray(np.full((4, 6), 1000, np.uint16)).save(tmp_path / "pets" / "dog" / "1.png")
    assert "dog/1.png has pixels of kind I;16" in str(wrong("pets", task=TWO, input=GREY))


def test_a_picture_without_a_class_is_named(wrong, tmp_path: Path) -> None:
    cats_and_dogs(tmp_path)
    picture(tmp_path / "pets" / "lost.png")
    assert "lost.png lies in no class folder" in str(wrong("pets", task=TWO, input=GREY))


def test_a_folder_and_a_file_are_not_taken_for_each_other(wrong, tmp_path: Path) -> None:
    cats_and_dogs(tmp_path)
    assert "is a folder" in str(wrong("pets", task=TWO, input=GREY, data='format = "csv"'))
    assert "is no folder" in str(wrong("pets/dog/1.png", task=TWO, input=GREY, data='format = "pictures"'))
    assert "cannot be told from '.png'" in str(wrong("pets/dog/1.png", task=TWO, input=GREY))


def test_without_the_library_it_is_said_how_to_get_it(wrong, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cats_and_dogs(tmp_path)
    monkeypatch.setitem(sys.modules, "PIL", None)
    assert "pip install 'fifomark[data]'" in str(wrong("pets", task=TWO, input=GREY))


def test_public_pictures_are_drawn_from_every_class(load, tmp_path: Path) -> None:
    for i in range(10):
        picture(tmp_path / "pets" / "cat" / f"{i}.png")
        picture(tmp_path / "pets" / "dog" / f"{i}.png")
    public, private = load("pets", task=TWO, input=GREY, data="public = 0.2").splits
    assert public.labels.tolist() == [0, 0, 1, 1]
    assert len(private.labels) == 16
