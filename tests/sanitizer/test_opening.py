"""What may be opened, and what is refused without being opened."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from fifomark.core.findings import Finding
from fifomark.sanitizer import opening
from fifomark.sanitizer.opening import open_submission, version_of


def refused(path: Path) -> tuple[str, str]:
    opened = open_submission(str(path))
    assert isinstance(opened, Finding)
    return opened.code, opened.message


def test_a_plain_file_is_opened_and_closed_again(tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(b"abc")
    before = len(os.listdir("/proc/self/fd"))
    opened = open_submission(str(tmp_path / "a.pt"))
    assert not isinstance(opened, Finding)
    with opened as file:
        assert (os.read(file.fd, 10), file.version.size) == (b"abc", 3)
        assert not os.get_inheritable(file.fd)
    assert len(os.listdir("/proc/self/fd")) == before


def test_what_is_no_plain_file_is_refused_by_its_kind(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "link.pt").symlink_to(tmp_path / "file")
    (tmp_path / "folder.pt").mkdir()
    os.mkfifo(tmp_path / "pipe.pt")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s.pt"))
    kinds = {"link": "symbolic link", "folder": "folder", "pipe": "named pipe", "s": "socket"}
    for name, kind in kinds.items():
        code, message = refused(tmp_path / f"{name}.pt")
        assert code == "FM102"
        assert kind in message


def test_a_device_is_refused() -> None:
    assert refused(Path("/dev/null")) == ("FM102", "this is a character device")


def test_a_second_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(b"abc")
    os.link(tmp_path / "a.pt", tmp_path / "b.pt")
    assert refused(tmp_path / "a.pt")[0] == "FM103"


@pytest.mark.parametrize("name", ["nobody.pt", "nul\0.pt", "x" * 300])
def test_what_cannot_be_opened_is_said_so(tmp_path: Path, name: str) -> None:
    assert refused(tmp_path / name)[0] == "FM104"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(b"abc")
    (tmp_path / "a.pt").chmod(0)
    assert refused(tmp_path / "a.pt")[0] == "FM104"


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.pt").touch()
    assert refused(tmp_path / "a.pt")[0] == "FM105"


def test_a_file_that_is_swapped_while_it_is_opened_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.pt"
    path.write_bytes(b"abc")
    real, before = os.lstat, len(os.listdir("/proc/self/fd"))

    def swapping(target: str) -> os.stat_result:
        status = real(target)
        path.rename(tmp_path / "old")
        path.write_bytes(b"xyz")
        return status

    monkeypatch.setattr(opening.os, "lstat", swapping)
    assert refused(path)[0] == "FM113"
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_file_that_becomes_a_link_while_it_is_opened_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.pt"
    path.write_bytes(b"abc")
    real = os.lstat

    def swapping(target: str) -> os.stat_result:
        status = real(target)
        path.rename(tmp_path / "old")
        path.symlink_to(tmp_path / "old")
        return status

    monkeypatch.setattr(opening.os, "lstat", swapping)
    assert refused(path)[0] == "FM104"


def test_a_change_of_size_or_time_shows(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    path.write_bytes(b"abc")
    opened = open_submission(str(path))
    assert not isinstance(opened, Finding)
    with opened as file:
        assert version_of(os.fstat(file.fd)) == file.version
        os.utime(path, ns=(1, 1))
        assert version_of(os.fstat(file.fd)) != file.version
