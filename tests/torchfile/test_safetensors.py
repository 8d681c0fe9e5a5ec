"""Clean files in the safetensors format, against its own library."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from test_writer import bits, written

from fifomark.torchfile.dtypes import DTYPES
from fifomark.torchfile.safetensors import DTYPES as KNOWN
from fifomark.torchfile.safetensors import CleanSafetensors
from fifomark.torchfile.writer import Plan


def plan(name: str, dtype: str, shape: tuple[int, ...], storage: int) -> Plan:
    return Plan(name, DTYPES[dtype], shape, storage)


@pytest.mark.parametrize("name", KNOWN)
def test_every_dtype_comes_back_bit_for_bit(tmp_path: Path, name: str) -> None:
    path, data = tmp_path / "a.safetensors", bytes(i % 2 for i in range(6)) * DTYPES[name].itemsize
    written(path, [plan("w", name, (2, 3), 0)], [data], CleanSafetensors)
    loaded = load_file(path)["w"]
    assert (loaded.dtype, tuple(loaded.shape), bits(loaded)) == (getattr(torch, name), (2, 3), data)


def test_tensors_of_every_size_lie_where_the_library_can_read_them(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    plans = [plan("b", "uint8", (3,), 0), plan("f", "float32", (2, 2), 1), plan("e", "float32", (0, 2), 2), plan("d", "float64", (), 3)]
    data = [b"abc", bytes(range(16)), b"", bytes(range(8))]
    written(path, plans, data, CleanSafetensors)
    loaded = load_file(path)
    assert {name: bits(tensor) for name, tensor in loaded.items()} == dict(zip("bfed", data, strict=True))
    assert [tuple(loaded[name].shape) for name in "bfed"] == [(3,), (2, 2), (0, 2), ()]


def test_a_tie_is_written_under_both_names(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    plans = [plan("a", "uint8", (3,), 0), plan("w", "int64", (1,), 1), plan("tied", "uint8", (3,), 0), plan("again", "int64", (1,), 1)]
    written(path, plans, [b"abc", bytes(range(8))], CleanSafetensors)
    assert {name: bits(tensor) for name, tensor in load_file(path).items()} == {
        **dict.fromkeys(("a", "tied"), b"abc"),
        **dict.fromkeys(("w", "again"), bytes(range(8))),
    }


def test_the_header_is_aligned_and_says_that_torch_wrote_it(tmp_path: Path) -> None:
    data = written(tmp_path / "a.safetensors", [plan("größe", "bool", (1,), 0)], [b"\1"], CleanSafetensors)
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    assert size % 8 == 0
    assert header == {"__metadata__": {"format": "pt"}, "größe": {"dtype": "BOOL", "shape": [1], "data_offsets": [0, 1]}}


def test_no_weights_at_all_are_an_empty_file(tmp_path: Path) -> None:
    written(tmp_path / "a.safetensors", [], [], CleanSafetensors)
    assert load_file(tmp_path / "a.safetensors") == {}


def test_the_same_weights_give_the_same_bytes(tmp_path: Path) -> None:
    plans = [plan("a", "uint8", (3,), 0), plan("b", "float32", (1,), 1)]
    one, two = (written(tmp_path / name, plans, [b"abc", b"\0\0\0\0"], CleanSafetensors) for name in ("a", "b"))
    assert one == two
