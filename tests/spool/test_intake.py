from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from collections.abc import Collection, Iterable
from pathlib import Path

import pytest

from fifomark.core.submission import EVERYTHING, Key, Listing, Look
from fifomark.spool.intake import Intake, _Folders

LATER = 10.0  # seconds after anything that these tests write


@pytest.fixture
def incoming(tmp_path: Path) -> Path:
    (tmp_path / "incoming").mkdir()
    return tmp_path / "incoming"


def sweep(intake: Intake, now: float, rubrics: Collection[str], waiting: Iterable[Key] = ()) -> Listing:
    return intake.look(now, EVERYTHING, rubrics, waiting)


def look(intake: Intake, now: float, keys: Iterable[Key], rubrics: Collection[str]) -> Listing:
    return intake.look(now, Look(frozenset(keys), again=True), rubrics)


def now_of(path: Path) -> float:
    return path.stat().st_ctime


def test_a_file_is_settled_once_it_has_rested(incoming: Path) -> None:
    (incoming / "a.pt").write_bytes(b"x")
    intake = Intake(str(incoming), settle=0.5)
    now = now_of(incoming / "a.pt")
    assert sweep(intake, now + 0.1, ()).unsettled == {("", "a.pt")}
    (arrival,) = sweep(intake, now + 0.6, ()).arrivals
    assert (arrival.name, arrival.kind, arrival.identity.size) == ("a.pt", "file", 1)


def test_a_file_that_someone_writes_to_is_not_settled_until_it_is_closed(incoming: Path) -> None:
    intake = Intake(str(incoming), settle=0.0)
    with (incoming / "a.pt").open("wb") as writer:
        writer.write(b"half")
        writer.flush()
        assert sweep(intake, now_of(incoming / "a.pt") + LATER, ()).unsettled == {("", "a.pt")}
    assert len(sweep(intake, now_of(incoming / "a.pt") + LATER, ()).arrivals) == 1


def test_a_forged_mtime_does_not_make_a_file_settled(incoming: Path) -> None:
    (incoming / "a.pt").write_bytes(b"x")
    os.utime(incoming / "a.pt", (1, 1))
    assert sweep(Intake(str(incoming), settle=5.0), now_of(incoming / "a.pt") + 0.1, ()).unsettled


def test_where_the_file_systems_clock_is_ahead_watching_decides(incoming: Path) -> None:
    (incoming / "a.pt").write_bytes(b"x")
    intake = Intake(str(incoming), settle=1.0)
    behind = now_of(incoming / "a.pt") - 3600
    assert sweep(intake, behind, ()).unsettled
    assert len(sweep(intake, behind + 1.1, ()).arrivals) == 1


@pytest.mark.parametrize("name", ["a.pt.part", "a.pt.tmp", ".a.pt", "b.crdownload", "B.PT.FILEPART"])
def test_uploads_in_progress_are_not_looked_at(incoming: Path, name: str) -> None:
    (incoming / name).write_bytes(b"x")
    listing = sweep(Intake(str(incoming), settle=0.0), now_of(incoming / name) + LATER, ())
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
        kinds = {a.name: a.kind for a in sweep(Intake(str(incoming), settle=0.0), now_of(incoming) + LATER, ()).arrivals}
    assert kinds == {
        "link.pt": "link", "folder.pt": "folder", "pipe.pt": "pipe", "twin.pt": "hard link", "target": "hard link", "socket.pt": "socket"
    }  # fmt: skip


def test_a_subfolder_named_as_a_rubric_is_looked_into_and_one_not_loaded_yet_is_left_alone(incoming: Path) -> None:
    for folder in ("digits", "new"):
        (incoming / folder).mkdir()
        (incoming / folder / "a.pt").write_bytes(b"x")
    listing = sweep(Intake(str(incoming), 0.0, lambda name: name == "new"), now_of(incoming) + LATER, ("digits",))
    assert [(a.folder, a.name) for a in listing.arrivals] == [("digits", "a.pt")]


def test_a_subfolder_may_go_at_any_time_but_not_incoming_itself(incoming: Path) -> None:
    """Were a lost incoming/ taken for an empty one, everything that waits would be withdrawn."""
    intake = Intake(str(incoming), settle=0.0)
    assert sweep(intake, 0.0, ("digits",)).arrivals == ()
    incoming.rmdir()
    with pytest.raises(FileNotFoundError):
        sweep(intake, 0.0, ())


def test_a_link_named_as_a_rubric_is_never_looked_through(incoming: Path, tmp_path: Path) -> None:
    (tmp_path / "private").mkdir()
    (tmp_path / "private" / "a.pt").write_bytes(b"x")
    (incoming / "digits").symlink_to(tmp_path / "private")
    listing = sweep(Intake(str(incoming), settle=0.0), now_of(incoming) + LATER, ("digits",))
    assert [(a.folder, a.name, a.kind) for a in listing.arrivals] == [("", "digits", "link")]


def test_numbers_beyond_signed_64_bits_are_bounded(incoming: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (incoming / "a.pt").write_bytes(b"x")
    real = os.stat(incoming / "a.pt")
    wild = type("Status", (), {name: getattr(real, name) for name in dir(real) if name.startswith("st_")})()
    wild.st_ino, wild.st_mtime_ns = (1 << 64) - 3, 1 << 70
    monkeypatch.setattr(_Folders, "status", lambda folders, key: wild)
    (arrival,) = sweep(Intake(str(incoming), settle=0.0), LATER + real.st_ctime, ()).arrivals
    assert (arrival.identity.inode, arrival.identity.mtime_ns) == (-3, (1 << 63) - 1)


def test_names_may_hold_any_bytes(incoming: Path) -> None:
    names = [b"line\nbreak.pt", b"\xff\xfe.pt", b"-rf.pt", b"x" * 252 + b".pt"]
    for name in names:
        with open(os.fsencode(incoming) + b"/" + name, "wb"):
            pass
    listing = sweep(Intake(str(incoming), settle=0.0), now_of(incoming) + LATER, ())
    assert {os.fsencode(a.name) for a in listing.arrivals} == set(names)


def test_a_file_is_told_of_once_and_again_only_when_it_has_changed(incoming: Path) -> None:
    (incoming / "a.pt").write_bytes(b"x")
    intake = Intake(str(incoming), settle=0.0)
    now = now_of(incoming / "a.pt") + LATER
    assert len(sweep(intake, now, ()).arrivals) == 1
    assert sweep(intake, now, ()) == look(intake, now, [("", "a.pt")], ()) == Listing()
    (incoming / "a.pt").write_bytes(b"longer")
    (arrival,) = look(intake, now, [("", "a.pt")], ()).arrivals
    assert arrival.identity.size == 6


def test_a_look_goes_no_further_than_it_is_told(incoming: Path) -> None:
    for name in ("a.pt", "b.pt", "c.pt.part"):
        (incoming / name).write_bytes(b"x")
    keys = [("", "a.pt"), ("", "c.pt.part"), ("", "never.pt"), ("unloaded", "x.pt")]
    listing = look(Intake(str(incoming), settle=0.0), now_of(incoming / "a.pt") + LATER, keys, ())
    assert [arrival.name for arrival in listing.arrivals] == ["a.pt"]
    assert listing.gone == {*keys[1:]}


def test_what_is_not_settled_is_looked_at_again_though_nobody_names_it(incoming: Path) -> None:
    (incoming / "a.pt").write_bytes(b"x")
    intake = Intake(str(incoming), settle=1.0)
    now = now_of(incoming / "a.pt")
    assert look(intake, now, [("", "a.pt")], ()).unsettled == {("", "a.pt")}
    assert len(look(intake, now + 1.1, (), ()).arrivals) == 1


def test_a_file_that_is_opened_for_writing_again_is_unsettled_again(incoming: Path) -> None:
    (incoming / "a.pt").write_bytes(b"x")
    intake = Intake(str(incoming), settle=0.0)
    now = now_of(incoming / "a.pt") + LATER
    sweep(intake, now, ())
    with (incoming / "a.pt").open("ab") as writer:
        writer.write(b"more")
        writer.flush()
        assert look(intake, now, [("", "a.pt")], ()).unsettled == {("", "a.pt")}
    assert len(look(intake, now, (), ()).arrivals) == 1


def test_what_waits_and_was_not_found_is_gone(incoming: Path) -> None:
    (incoming / "a.pt").write_bytes(b"x")
    listing = sweep(Intake(str(incoming), settle=0.0), now_of(incoming) + LATER, (), waiting=[("", "a.pt"), ("digits", "b.pt")])
    assert listing.gone == {("digits", "b.pt")}


def test_a_look_never_goes_through_a_link_in_place_of_a_subfolder(incoming: Path, tmp_path: Path) -> None:
    (tmp_path / "private").mkdir()
    (tmp_path / "private" / "a.pt").write_bytes(b"x")
    (incoming / "digits").symlink_to(tmp_path / "private")
    listing = look(Intake(str(incoming), settle=0.0), now_of(incoming) + LATER, [("digits", "a.pt")], ("digits",))
    assert listing == Listing(gone=frozenset({("digits", "a.pt")}))


@pytest.mark.parametrize("rubric", ["digits", "new"])
def test_a_subfolder_that_has_become_a_rubrics_is_no_arrival_any_more(incoming: Path, rubric: str) -> None:
    """Were it one, everybody's files in it would be taken together, as one submission."""
    (incoming / rubric).mkdir()
    rubrics: set[str] = set()
    intake = Intake(str(incoming), 0.0, lambda name: name in rubrics)
    now = now_of(incoming) + LATER
    assert [arrival.kind for arrival in sweep(intake, now, ()).arrivals] == ["folder"]
    rubrics.add("new")
    key = ("", rubric)
    for told in (look(intake, now, [key], ("digits",)), intake.look_again(now, key, ("digits",)), sweep(intake, now, ("digits",))):
        assert told == Listing(gone=frozenset({key}))


def test_a_writer_is_looked_for_in_the_folder_and_never_behind_a_link(incoming: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (incoming / "digits").mkdir()
    (incoming / "link").symlink_to(tmp_path / "elsewhere")
    with open(tmp_path / "elsewhere/a.pt", "wb"), open(incoming / "digits/a.pt", "wb"), _Folders(str(incoming)) as folders:
        assert folders.has_writer(("digits", "a.pt"))
        assert not folders.has_writer(("link", "a.pt"))
    with _Folders(str(incoming)) as folders:
        assert not folders.has_writer(("digits", "a.pt"))


# A look at everything, slice by slice


@pytest.fixture
def many(incoming: Path, monkeypatch: pytest.MonkeyPatch) -> Intake:
    """Ten files, at which a look of no time looks two at a time, in the order of their names."""
    for i in range(10):
        (incoming / f"{i}.pt").write_bytes(b"x")
    monkeypatch.setattr("fifomark.spool.intake._AT_ONCE", 2)
    monkeypatch.setattr("os.listdir", lambda folder: sorted(entry.name for entry in os.scandir(folder)))
    return Intake(str(incoming), settle=0.0)


SLICE = Look(seconds=1e-9)


def test_a_sweep_goes_on_where_it_stopped_and_tells_at_its_end(incoming: Path, many: Intake) -> None:
    now = now_of(incoming / "9.pt") + LATER
    for _ in range(5):
        assert many.look(now, SLICE, ()) == Listing()
        assert many.sweeping
    assert [arrival.name for arrival in many.look(now, SLICE, ()).arrivals] == [f"{i}.pt" for i in range(10)]
    assert not many.sweeping
    assert sweep(many, now, ()) == Listing()


def test_what_a_sweep_has_found_is_told_at_once_where_it_is_asked_for(incoming: Path, many: Intake) -> None:
    now = now_of(incoming / "9.pt") + LATER
    many.look(now, SLICE, ())
    assert [arrival.name for arrival in many.look_again(now, ("", "1.pt"), ()).arrivals] == ["1.pt"]
    assert "1.pt" not in {arrival.name for arrival in sweep(many, now, ()).arrivals}


def test_what_changes_after_a_sweep_has_found_it_is_told_as_it_is_then(incoming: Path, many: Intake) -> None:
    now = now_of(incoming / "9.pt") + LATER
    many.look(now, SLICE, ())
    (incoming / "0.pt").write_bytes(b"longer")
    (incoming / "1.pt").unlink()
    (told,) = look(many, now, [("", "0.pt")], ()).arrivals
    assert told.identity.size == 6
    assert look(many, now, [("", "1.pt")], ()).gone == {("", "1.pt")}
    assert [arrival.name for arrival in sweep(many, now, ()).arrivals] == [f"{i}.pt" for i in range(2, 10)]


def test_what_comes_after_a_sweep_was_begun_is_not_gone(incoming: Path, many: Intake) -> None:
    now = now_of(incoming / "9.pt") + LATER
    many.look(now, SLICE, ())
    (incoming / "late.pt").write_bytes(b"x")
    assert len(look(many, now, [("", "late.pt")], ()).arrivals) == 1
    (incoming / "5.pt").unlink()
    waiting = [("", "late.pt"), ("", "later.pt")]
    gone = [sweep(many, now, (), waiting).gone for _ in range(2)]
    assert gone[0] | gone[1] == {("", "5.pt"), ("", "later.pt")}
    assert sweep(many, now, ()) == Listing()


def test_what_is_written_to_is_told_of_before_a_sweep_is_at_its_end(incoming: Path, many: Intake) -> None:
    with open(incoming / "0.pt", "ab"):
        assert many.look(now_of(incoming / "9.pt") + LATER, SLICE, ()).unsettled == {("", "0.pt")}
        assert many.sweeping


def test_were_incoming_closed_to_us_nothing_would_be_taken_for_gone(incoming: Path) -> None:
    incoming.rmdir()
    with pytest.raises(FileNotFoundError):
        look(Intake(str(incoming), settle=0.0), 0.0, [("", "a.pt")], ())


def test_what_is_asked_after_once_more_is_settled_only_where_nobody_has_it_open(incoming: Path) -> None:
    """Also where nothing was written to it yet."""
    (incoming / "a.pt").write_bytes(b"x")
    intake = Intake(str(incoming), settle=0.0)
    now, key = now_of(incoming / "a.pt") + LATER, ("", "a.pt")
    assert len(sweep(intake, now, ()).arrivals) == 1
    with open(incoming / "a.pt", "r+b"):
        assert intake.look_again(now, key, ()).unsettled == {key}
    assert len(intake.look_again(now, key, ()).arrivals) == 1
    assert intake.look_again(now, key, ()) == Listing()


def test_where_leases_cannot_be_had_nobody_is_taken_for_a_writer(incoming: Path) -> None:
    intake = Intake(str(incoming), settle=0.0, leases=False)
    with open(incoming / "a.pt", "wb"):
        assert len(sweep(intake, now_of(incoming / "a.pt") + LATER, ()).arrivals) == 1


@pytest.mark.parametrize("code", [errno.EIO, errno.ESTALE, errno.EACCES])
def test_a_disk_that_cannot_say_says_nothing(incoming: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    (incoming / "a.pt").write_bytes(b"x")
    intake = Intake(str(incoming), settle=0.0)
    now, key = now_of(incoming / "a.pt") + LATER, ("", "a.pt")
    assert len(sweep(intake, now, ()).arrivals) == 1

    def fails(folders: _Folders, key: Key) -> os.stat_result:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(_Folders, "status", fails)
    assert sweep(intake, now, (), waiting=[key]) == look(intake, now, [key], ()) == intake.look_again(now, key, ()) == Listing()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may look everywhere")
def test_a_folder_that_is_closed_to_us_is_an_error_and_not_empty(incoming: Path) -> None:
    (incoming / "a.pt").write_bytes(b"x")
    incoming.chmod(0o600)
    try:
        with pytest.raises(PermissionError):
            sweep(Intake(str(incoming), settle=0.0), 0.0, ())
    finally:
        incoming.chmod(0o700)


def test_much_that_is_gone_is_told_of_some_at_a_time(incoming: Path, many: Intake) -> None:
    waiting = [("", f"gone{i}.pt") for i in range(7)]
    now = now_of(incoming / "9.pt") + LATER
    told = [many.look(now, EVERYTHING, (), waiting) for _ in range(4)]
    assert [len(listing.gone) for listing in told] == [2, 2, 2, 1]
    assert [len(listing.arrivals) for listing in told] == [0, 0, 0, 10]


def test_who_opens_a_file_while_we_ask_who_writes_does_not_end_us(tmp_path: Path) -> None:
    """By default the kernel tells a lease's holder with SIGIO, which ends a process that does not handle it."""
    script = """
import os, sys
from fifomark.spool.intake import _Folders

path = os.path.join(sys.argv[1], "a.pt")
open(path, "wb").close()

us = os.getpid()
if os.fork() == 0:
    while os.getppid() == us:
        os.close(os.open(path, os.O_WRONLY))
with _Folders(sys.argv[1]) as folders:
    seen = [folders.has_writer(("", "a.pt")) for _ in range(20_000)]
print(any(seen), flush=True)
os.killpg(0, 9)
"""
    ran = subprocess.run([sys.executable, "-c", script, tmp_path], capture_output=True, text=True, start_new_session=True, timeout=120)
    assert ran.stdout == "True\n"
