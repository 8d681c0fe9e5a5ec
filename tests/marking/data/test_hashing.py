from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fifomark.marking.data.hashing import files_of, sha256_of


def test_the_hash_of_a_file_is_that_of_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256_of(tmp_path / "a") == hashlib.sha256(b"abc").hexdigest()


def test_the_hash_of_a_folder_is_over_sorted_names_sizes_and_bytes(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "x").write_bytes(b"12")
    (tmp_path / "a").write_bytes(b"")
    assert sha256_of(tmp_path) == hashlib.sha256(b"a\x000\x00" + b"b/x\x002\x0012").hexdigest()


@pytest.mark.parametrize("change", ["contents", "name", "folder", "border", "more"])
def test_whatever_moves_an_example_moves_the_hash(tmp_path: Path, change: str) -> None:
    for folder in ("cat", "dog"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "1").write_bytes(b"11")
        (tmp_path / folder / "2").write_bytes(b"2")
    before = sha256_of(tmp_path)
    if change == "contents":
        (tmp_path / "cat" / "1").write_bytes(b"12")
    elif change == "name":
        (tmp_path / "cat" / "1").rename(tmp_path / "cat" / "3")
    elif change == "folder":
        (tmp_path / "cat" / "1").rename(tmp_path / "dog" / "3")
    elif change == "border":
        (tmp_path / "cat" / "1").write_bytes(b"1")
        (tmp_path / "cat" / "2").write_bytes(b"12")
    else:
        (tmp_path / "cat" / "3").write_bytes(b"")
    assert sha256_of(tmp_path) != before


def test_what_a_desktop_leaves_in_a_folder_does_not_count(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1")
    before = sha256_of(tmp_path)
    (tmp_path / ".DS_Store").write_bytes(b"x")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "config").write_bytes(b"x")
    assert sha256_of(tmp_path) == before
    assert files_of(tmp_path) == ["a"]


def test_nothing_outside_of_the_folder_is_read_unseen(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "cat").symlink_to(tmp_path)
    with pytest.raises(OSError, match="not followed"):
        sha256_of(tmp_path / "data")


def test_a_named_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(OSError, match="no regular file"):
            sha256_of(path)


def test_who_reads_a_rubric_waits_for_no_numpy() -> None:
    code = "import sys, fifomark.marking.rubric; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
