from __future__ import annotations

import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_torch

X = np.arange(8, dtype=np.float32).reshape(4, 2)
Y = np.array([0, 1, 2, 0])


def test_safetensors_are_read(load, tmp_path: Path) -> None:
    save_file({"x": X, "y": Y}, tmp_path / "d.safetensors")
    (split,) = load("d.safetensors").splits
    assert split.inputs[0].tolist() == X.tolist()
    assert split.labels.tolist() == Y.tolist()


@pytest.mark.parametrize("body", [b"", b"abc", b"\xff" * 64])
def test_what_is_no_safetensors_is_said_to_be_none(wrong, tmp_path: Path, body: bytes) -> None:
    (tmp_path / "d.safetensors").write_bytes(body)
    assert wrong("d.safetensors").key == "data.path"


def test_a_dtype_that_numpy_does_not_have_is_named(wrong, tmp_path: Path) -> None:
    save_torch({"x": torch.ones(4, 2, dtype=torch.bfloat16), "y": torch.zeros(4, dtype=torch.int64)}, tmp_path / "d.safetensors")
    assert "bfloat16" in str(wrong("d.safetensors"))


def test_without_the_library_it_is_said_how_to_get_it(wrong, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_file({"x": X, "y": Y}, tmp_path / "d.safetensors")
    monkeypatch.setitem(sys.modules, "safetensors", None)
    assert "pip install 'fifomark[data]'" in str(wrong("d.safetensors"))


def test_no_pickle_is_ever_read(wrong, tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "ran",))

    np.savez(tmp_path / "d.npz", x=np.array([Payload()] * 4, object), y=Y)
    assert "no objects" in str(wrong("d.npz"))
    (tmp_path / "e.npz").write_bytes(pickle.dumps(Payload()))
    assert "is no .npz" in str(wrong("e.npz"))
    assert not (tmp_path / "ran").exists()


def test_a_broken_npz_is_said_to_be_broken(wrong, tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "d.npz", x=np.random.default_rng(0).normal(size=(100, 2)), y=np.zeros(100, np.int64))
    body = bytearray((tmp_path / "d.npz").read_bytes())
    body[200:400] = bytes(200)
    (tmp_path / "d.npz").write_bytes(body)
    assert "cannot be read" in str(wrong("d.npz"))


def test_several_arrays_are_several_arguments_of_the_model(load, tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", a=X, b=X + 10, y=Y)
    (split,) = load("d.npz", data='input = ["b", "a"]', input="shape = [2]\nscale = 0.5").splits
    assert [argument.tolist() for argument in split.inputs] == [((X + 10) / 2).tolist(), (X / 2).tolist()]


def test_each_argument_may_be_described(load, tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", a=X, mask=np.ones((4, 3), bool), y=Y)
    more = 'shape = [2]\nscale = 0.5\n[[input.more]]\nshape = [3]\ndtype = "int64"'
    (split,) = load("d.npz", data='input = ["a", "mask"]', input=more).splits
    assert [(argument.shape, str(argument.dtype)) for argument in split.inputs] == [((4, 2), "float32"), ((4, 3), "int64")]


@pytest.mark.parametrize(
    ("data", "input", "key", "said"),
    [
        ('input = ["a", "bb"]', "shape = [2]", "data.input", "did you mean 'b'"),
        ('input = ["a", "short"]', "shape = [2]", "data.input", "'short' has 3 examples"),
        ('input = ["a", "wide"]', "shape = [2]", "input.shape", "(3,) in array 'wide'"),
        ('input = ["a", "wide"]', "shape = [2]\n[[input.more]]\nshape = [4]", "input.more[0].shape", "(3,)"),
        ('input = ["a", "b"]', "shape = [2]\n[[input.more]]\nshape = [2]\n[[input.more]]\nshape = [2]", "input.more", "describes 2"),
        ('input = ["a", "b"]', "shape = [2]\n[[input.more]]\nshape = [2]\nmean = [0.0, 1.0, 2.0]", "input.more[0].mean", "3 numbers"),
        ('input = ["a", "y"]', "shape = [2]", "data.input", "'y' is the label as well"),
        ('input = ["a", "single"]', "shape = [2]", "data.input", "single number"),
        ("input = []", "shape = [2]", "data.input", "a list that is not empty"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(wrong, tmp_path: Path, data: str, input: str, key: str, said: str) -> None:
    np.savez(tmp_path / "d.npz", a=X, b=X, short=X[:3], wide=np.ones((4, 3)), single=np.float32(1), y=Y)
    error = wrong("d.npz", data=data, input=input)
    assert error.key == key
    assert said in str(error)
