from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from fifomark.core.submission import Listing
from fifomark.spool.intake import Intake, _has_writer

LATER = 10.0  # seconds after anything that these tests write


@pytest.fixture
def incoming(tmp_path: Path) -> Path:
    (tmp_path / "incoming").mkdir()
    return tmp_path / "incoming"


def now_of(path: Path) -> float:
    return path.stat().st_ctime


def test_a_file_is_settled_once_it_has_rested(incoming: Path) -> None:
    (incoming / "a.pt").write_bytes(b"x")
    intake = Intake(str(incoming), settle=0.5)
    now = now_of(incoming / "a.pt")
    assert intake.sweep(now + 0.1, ()).unsettled == {("", "a.pt")}
    (arrival,) = intake.sweep(now + 0.6, ()).arrivals
    assert (arrival.name, arrival.kind, arrival.identity.size) == ("a.pt", "file", 1)


def test_a_file_that_someone_writes_to_is_not_settled_until_it_is_closed(incoming: Path) -> None:
    intake = Intake(str(incoming), settle=0.0)
    with (incoming / "a.pt").open("wb") as writer:
        writer.write(b"half")
        writer.flush()
        assert intake.sweep(now_of(incoming / "a.pt") + LATER, ()).unsettled == {("", "a.pt")}
    assert len(intake.sweep(now_of(incoming / "a.pt") + LATER, ()).arrivals) == 1


def test_a_forged_mtime_does_not_make_a_file_settled(incoming: Path) -> None:
    (incoming / "a.pt").write_bytes(b"x")
    os.utime(incoming / "a.pt", (1, 1))
    assert Intake(str(incoming), settle=5.0).sweep(now_of(incoming / "a.pt") + 0.1, ()).unsettled


def test_where_the_file_systems_clock_is_ahead_watching_decides(incoming: Path) -> None:
    (incoming / "a.pt").write_bytes(b"x")
    intake = Intake(str(incoming), settle=1.0)
    behind = now_of(incoming / "a.pt") - 3600
    assert intake.sweep(behind, ()).unsettled
    assert len(intake.sweep(behind + 1.1, ()).arrivals) == 1


@pytest.mark.parametrize("name", ["a.pt.part", "a.pt.tmp", ".a.pt", "b.crdownload", "B.PT.FILEPART"])
def test_uploads_in_progress_are_not_looked_at(incoming: Path, name: str) -> None:
    (incoming / name).write_bytes(b"x")
    listing = Intake(str(incoming), settle=0.0).sweep(now_of(incoming / name) + LATER, ())
    assert not listing.arrivals
    assert not listing.unsettled


def test_whatever_is_no_plain_file_arrives_as_what_it_is(incoming: Path) -> None:
    (incoming / "target").write_bytes(b"x")
    (incoming / "link.pt").symlink_to("target")
    (incoming / "folder.pt").mkdir()
    os.mkfifo(incoming / "pipe.pt")
    os.link(incoming / "target", incoming / "twin.pt")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(incoming / "socket.pt"))
        kinds = {a.name: a.kind for a in Intake(str(incoming), settle=0.0).sweep(now_of(incoming) + LATER, ()).arrivals}
    assert kinds == {
        "link.pt": "link", "folder.pt": "folder", "pipe.pt": "pipe", "twin.pt": "hard link", "target": "hard link", "socket.pt": "socket"
    }  # fmt: skip


def test_a_subfolder_named_as_a_rubric_is_looked_into_and_one_not_loaded_yet_is_left_alone(incoming: Path) -> None:
    for folder in ("digits", "new"):
        (incoming / folder).mkdir()
        (incoming / folder / "a.pt").write_bytes(b"x")
    listing = Intake(str(incoming), settle=0.0).sweep(now_of(incoming) + LATER, ("digits",), untouched=("new",))
    assert [(a.folder, a.name) for a in listing.arrivals] == [("digits", "a.pt")]


def test_a_subfolder_may_go_at_any_time_but_not_incoming_itself(incoming: Path) -> None:
    """Were a lost incoming/ taken for an empty one, everything that waits would be withdrawn."""
    intake = Intake(str(incoming), settle=0.0)
    assert intake.sweep(0.0, ("digits",)).arrivals == ()
    incoming.rmdir()
    with pytest.raises(FileNotFoundError):
        intake.sweep(0.0, ())


def test_a_link_named_as_a_rubric_is_never_looked_through(incoming: Path, tmp_path: Path) -> None:
    (tmp_path / "private").mkdir()
    (tmp_path / "private" / "a.pt").write_bytes(b"x")
    (incoming / "digits").symlink_to(tmp_path / "private")
    listing = Intake(str(incoming), settle=0.0).sweep(now_of(incoming) + LATER, ("digits",))
    assert [(a.folder, a.name, a.kind) for a in listing.arrivals] == [("", "digits", "link")]


def test_numbers_beyond_signed_64_bits_are_bounded(incoming: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (incoming / "a.pt").write_bytes(b"x")
    real = os.stat(incoming / "a.pt")
    wild = type("Status", (), {name: getattr(real, name) for name in dir(real) if name.startswith("st_")})()
    wild.st_ino, wild.st_mtime_ns = (1 << 64) - 3, 1 << 70
    monkeypatch.setattr("fifomark.spool.intake._entries", lambda folder: [("a.pt", wild)])
    (arrival,) = Intake(str(incoming), settle=0.0).sweep(LATER + real.st_ctime, ()).arrivals
    assert (arrival.identity.inode, arrival.identity.mtime_ns) == (-3, (1 << 63) - 1)


def test_names_may_hold_any_bytes(incoming: Path) -> None:
    names = [b"line\nbreak.pt", b"\xff\xfe.pt", b"-rf.pt", b"x" * 252 + b".pt"]
    for name in names:
        with open(os.fsencode(incoming) + b"/" + name, "wb"):
            pass
    listing = Intake(str(incoming), settle=0.0).sweep(now_of(incoming) + LATER, ())
    assert {os.fsencode(a.name) for a in listing.arrivals} == set(names)


def test_a_file_is_told_of_once_and_again_only_when_it_has_changed(incoming: Path) -> None:
    (incoming / "a.pt").write_bytes(b"x")
    intake = Intake(str(incoming), settle=0.0)
    now = now_of(incoming / "a.pt") + LATER
    assert len(intake.sweep(now, ()).arrivals) == 1
    assert intake.sweep(now, ()) == intake.look(now, [("", "a.pt")], ()) == Listing()
    (incoming / "a.pt").write_bytes(b"longer")
    (arrival,) = intake.look(now, [("", "a.pt")], ()).arrivals
    assert arrival.identity.size == 6


def test_a_look_goes_no_further_than_it_is_told(incoming: Path) -> None:
    for name in ("a.pt", "b.pt", "c.pt.part"):
        (incoming / name).write_bytes(b"x")
    keys = [("", "a.pt"), ("", "c.pt.part"), ("", "never.pt"), ("unloaded", "x.pt")]
    listing = Intake(str(incoming), settle=0.0).look(now_of(incoming / "a.pt") + LATER, keys, ())
    assert [arrival.name for arrival in listing.arrivals] == ["a.pt"]
    assert listing.gone == {("", "never.pt")}


def test_what_is_not_settled_is_looked_at_again_though_nobody_names_it(incoming: Path) -> None:
    (incoming / "a.pt").write_bytes(b"x")
    intake = Intake(str(incoming), settle=1.0)
    now = now_of(incoming / "a.pt")
    assert intake.look(now, [("", "a.pt")], ()).unsettled == {("", "a.pt")}
    assert len(intake.look(now + 1.1, (), ()).arrivals) == 1


def test_a_file_that_is_opened_for_writing_again_is_unsettled_again(incoming: Path) -> None:
    (incoming / "a.pt").write_bytes(b"x")
    intake = Intake(str(incoming), settle=0.0)
    now = now_of(incoming / "a.pt") + LATER
    intake.sweep(now, ())
    with (incoming / "a.pt").open("ab") as writer:
        writer.write(b"more")
        writer.flush()
        assert intake.look(now, [("", "a.pt")], ()).unsettled == {("", "a.pt")}
    assert len(intake.look(now, (), ()).arrivals) == 1


def test_what_waits_and_was_not_found_is_gone(incoming: Path) -> None:
    (incoming / "a.pt").write_bytes(b"x")
    listing = Intake(str(incoming), settle=0.0).sweep(now_of(incoming) + LATER, (), waiting=[("", "a.pt"), ("digits", "b.pt")])
    assert listing.gone == {("digits", "b.pt")}


def test_a_look_never_goes_through_a_link_in_place_of_a_subfolder(incoming: Path, tmp_path: Path) -> None:
    (tmp_path / "private").mkdir()
    (tmp_path / "private" / "a.pt").write_bytes(b"x")
    (incoming / "digits").symlink_to(tmp_path / "private")
    listing = Intake(str(incoming), settle=0.0).look(now_of(incoming) + LATER, [("digits", "a.pt")], ("digits",))
    assert listing == Listing(gone=frozenset({("digits", "a.pt")}))


def test_a_subfolder_of_a_rubric_is_no_arrival_when_it_is_touched(incoming: Path) -> None:
    (incoming / "digits").mkdir()
    (incoming / "new").mkdir()
    listing = Intake(str(incoming), settle=0.0).look(now_of(incoming) + LATER, [("", "digits"), ("", "new")], ("digits",), ("new",))
    assert listing == Listing()


def test_a_writer_is_looked_for_in_the_folder_and_never_behind_a_link(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with open(tmp_path / "elsewhere/a.pt", "wb"):
        assert _has_writer(str(tmp_path / "elsewhere"), "a.pt")
        assert not _has_writer(str(tmp_path / "link"), "a.pt")
    assert not _has_writer(str(tmp_path / "elsewhere"), "a.pt")
