from __future__ import annotations

import os
from pathlib import Path

import pytest

from fifomark.spool.moves import advance, publish_all, publishing, rename
from fifomark.spool.spool import create, drop


def test_a_rename_never_overwrites(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    (tmp_path / "b").write_text("b")
    with pytest.raises(FileExistsError):
        rename(str(tmp_path / "a"), str(tmp_path / "b"))
    assert (tmp_path / "a").read_text() == "a"
    assert (tmp_path / "b").read_text() == "b"


def test_advancing_twice_is_advancing_once(tmp_path: Path) -> None:
    source, target = str(tmp_path / "a"), str(tmp_path / "b")
    Path(source).write_text("a")
    assert advance(source, target)
    assert advance(source, target)
    assert not advance(str(tmp_path / "c"), str(tmp_path / "d"))


def test_what_is_being_published_is_seen_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "report.json"

    def publish_and_fail() -> None:
        with publishing(str(target)) as fd:
            os.write(fd, b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        publish_and_fail()
    assert list(tmp_path.iterdir()) == []
    with publishing(str(target)) as fd:
        os.write(fd, b"whole")
        assert not target.exists()
    assert target.read_bytes() == b"whole"


def test_of_many_that_are_published_none_is_half_written_where_one_cannot_be(tmp_path: Path) -> None:
    files = [(str(tmp_path / f"{i}.json"), b"whole") for i in range(250)]
    publish_all(files)
    assert sorted(path.read_bytes() for path in tmp_path.iterdir()) == [b"whole"] * 250
    (tmp_path / "251.json").mkdir()
    with pytest.raises(OSError, match=r"251\.json"):
        publish_all((str(tmp_path / f"{i}.json"), b"more") for i in (0, 250, 251, 252))
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(".tmp")]
    assert {path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} <= {b"whole", b"more"}


def test_what_is_submitted_never_goes_through_a_link_in_place_of_a_rubrics_folder(tmp_path: Path) -> None:
    layout = create(tmp_path / "spool", "")
    (tmp_path / "outside").mkdir()
    (tmp_path / "spool/incoming/digits").symlink_to(tmp_path / "outside")
    (tmp_path / "model.pt").write_bytes(b"x")
    with pytest.raises(OSError, match="incoming/digits"):
        drop(layout, str(tmp_path / "model.pt"), "digits")
    assert list((tmp_path / "outside").iterdir()) == []
    assert drop(layout, str(tmp_path / "model.pt"), "other") == str(tmp_path / "spool/incoming/other/model.pt")
    with pytest.raises(FileExistsError):
        drop(layout, str(tmp_path / "model.pt"), "other")
    assert [path.name for path in (tmp_path / "spool/incoming/other").iterdir()] == ["model.pt"]
