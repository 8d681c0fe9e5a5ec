"""What is no clean file, or one that says more than a clean file may. What every honest one gives: tests/loading.py."""

from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path

import builders
import pytest
import torch

from fifomark.marking.clean_file import load_clean


def archive(path: Path, data_pkl: bytes, storage: bytes = bytes(8)) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", data_pkl)
        file.writestr("archive/data/0", storage)
    return path


def state_dict(value: bytes) -> bytes:
    return builders.PROTO2 + builders.ordered_dict((builders.text("w"), value)) + builders.STOP


@pytest.mark.parametrize("name", ["os.system", "builtins.eval", "torch._utils._rebuild_parameter", "torch.load", "torch.hub.load"])
def test_a_name_that_the_clean_writer_does_not_write_is_reached_by_no_file(tmp_path: Path, name: str) -> None:
    marker = tmp_path / "marker"
    path = archive(tmp_path / "a.pt", state_dict(builders.call(name, builders.text(f"touch {marker}"))))
    with pytest.raises(pickle.UnpicklingError, match=f"{name} is not what a clean file names"):
        load_clean(path)
    assert not marker.exists()


def test_a_storage_is_as_long_as_it_is_said_to_be_and_no_tensor_leaves_it(tmp_path: Path) -> None:
    with pytest.raises(pickle.UnpicklingError, match="data/0 has 4 bytes, and is said to have 2 times 4"):
        load_clean(archive(tmp_path / "a.pt", state_dict(builders.tensor("0", (2,))), bytes(4)))
    with pytest.raises(RuntimeError, match="out of bounds"):
        load_clean(archive(tmp_path / "b.pt", state_dict(builders.tensor("0", (2,), offset=1)), bytes(8)))


def test_what_is_no_archive_is_no_clean_file(tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(b"no archive")
    with pytest.raises(zipfile.BadZipFile):
        load_clean(tmp_path / "a.pt")


def test_what_a_model_writes_into_its_weights_stays_with_the_process(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    torch.save({"w": torch.zeros(4)}, path)
    os.chmod(path, 0o444)
    before = path.read_bytes()
    load_clean(path)["w"].fill_(1)
    assert path.read_bytes() == before
    assert load_clean(path)["w"].sum() == 0
