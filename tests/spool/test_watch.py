from __future__ import annotations

import itertools
import os
import subprocess
import time
from collections.abc import Callable
from multiprocessing.connection import wait
from pathlib import Path
from types import SimpleNamespace
from typing import Literal

import pytest
from watchdog.observers.inotify_c import InotifyConstants, InotifyEvent, InotifyFD

from fifomark.core.submission import Key
from fifomark.spool import watch
from fifomark.spool.layout import Layout
from fifomark.spool.mounts import over_network
from fifomark.spool.watch import Watcher

SOON = 20.0  # seconds: far more than an event needs, also on a busy machine


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    (tmp_path / "control").mkdir()
    (tmp_path / "rubrics/digits").mkdir(parents=True)
    (tmp_path / "rubrics/digits/rubric.toml").touch()
    (tmp_path / "incoming" / "digits").mkdir(parents=True)
    return Layout(tmp_path)


def awaited(watcher: Watcher, enough: Callable[[set[Key] | None], bool]) -> set[Key] | None:
    """What was touched, once it is `enough`."""
    touched: set[Key] | None = set()
    while not enough(touched):
        assert wait([watcher.fileno()], SOON), f"nothing more was touched than {touched}"
        more = watcher.touched()
        touched = None if more is None or touched is None else touched | more
    return touched


def test_it_says_where_something_happened(layout: Layout) -> None:
    incoming = Path(layout.folder("incoming"))
    with Watcher(layout) as watcher:
        assert watcher.touched() is None  # what came before the watch began
        (incoming / "a.pt").write_bytes(b"x")
        (incoming / "digits" / "b.pt").write_bytes(b"x")
        os.rename(incoming / "a.pt", incoming / "c.pt")
        wanted = {("", "a.pt"), ("digits", "b.pt"), ("", "c.pt")}
        assert awaited(watcher, lambda touched: touched is None or touched >= wanted) == wanted


def test_a_folder_that_comes_is_a_reason_to_look_at_everything(layout: Layout, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    with Watcher(layout) as watcher:
        watcher.touched()
        os.rename(tmp_path / "outside", Path(layout.folder("incoming"), "new"))
        awaited(watcher, lambda touched: touched is None)


def test_a_folder_of_a_rubric_that_comes_later_is_watched_once_it_was_looked_for(layout: Layout) -> None:
    folder = Path(layout.folder("incoming"), "digits")
    folder.rmdir()
    with Watcher(layout) as watcher:
        watcher.touched()
        folder.mkdir()
        awaited(watcher, lambda touched: touched is None)
        watcher.keep_up()
        watcher.touched()
        (folder / "b.pt").write_bytes(b"x")
        assert awaited(watcher, lambda touched: touched is None or bool(touched)) == {("digits", "b.pt")}


def test_a_folder_as_deep_as_can_be_does_not_stop_the_watching(layout: Layout) -> None:
    """watchdog walks down what it watches with all below, and its thread dies of a thousand levels."""
    incoming = Path(layout.folder("incoming"))
    with Watcher(layout) as watcher:
        watcher.touched()
        (incoming / "deep").mkdir()
        inner = os.open(incoming / "deep", os.O_RDONLY)
        for _ in range(1500):
            os.mkdir("d", dir_fd=inner)
            outer, inner = inner, os.open("d", os.O_RDONLY, dir_fd=inner)
            os.close(outer)
        os.close(inner)
        awaited(watcher, lambda touched: touched is None)
        watcher.keep_up()
        watcher.touched()
        (incoming / "a.pt").write_bytes(b"x")
        assert awaited(watcher, lambda touched: touched is None or bool(touched)) == {("", "a.pt")}
    subprocess.run(["rm", "-rf", str(incoming / "deep")], check=True)


def test_more_names_than_are_kept_are_a_reason_to_look_at_everything(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "MAX_TOUCHED", 3)
    with Watcher(layout) as watcher:
        watcher.touched()
        for i in itertools.count():  # how many of them come between two looks is the machine's to say
            for j in range(5):
                Path(layout.folder("incoming"), f"{j}.pt").write_bytes(b"x")
            assert wait([watcher.fileno()], SOON)
            time.sleep(0.01 * i)
            if watcher.touched() is None:
                return
            assert i < 100


def test_when_the_kernel_has_lost_events_everything_is_looked_at(layout: Layout) -> None:
    with Watcher(layout) as watcher:
        watcher.touched()
        lost = InotifyEvent(-1, InotifyConstants.IN_Q_OVERFLOW, 0, b"")
        InotifyFD.get_instance().handle_event(lost)
        assert wait([watcher.fileno()], SOON)
        assert watcher.touched() is None


def test_another_folder_in_the_place_of_incoming_is_watched_in_its_stead(layout: Layout) -> None:
    incoming = Path(layout.folder("incoming"))
    with Watcher(layout) as watcher:
        os.rename(incoming, incoming.with_name("old"))
        incoming.mkdir()
        watcher.keep_up()
        assert watcher.touched() is None
        (incoming / "a.pt").write_bytes(b"x")
        assert awaited(watcher, lambda touched: touched is None or ("", "a.pt") in touched) == {("", "a.pt")}


def test_where_nothing_can_be_watched_nothing_is(layout: Layout) -> None:
    with Watcher(layout, watching=False) as watcher:
        watcher.touched()
        Path(layout.folder("incoming"), "a.pt").write_bytes(b"x")
        watcher.keep_up()
        assert not wait([watcher.fileno()], 0.3)


@pytest.mark.parametrize(
    ("path", "network"), [("/data/spool/incoming", True), ("/home/me/incoming", False), ("/mnt/ssh/incoming", True), ("/database/x", False)]
)
def test_a_network_file_system_is_polled(monkeypatch: pytest.MonkeyPatch, path: str, network: bool) -> None:
    mounts = {"/": "ext4", "/data": "nfs4", "/mnt/ssh": "fuse.sshfs"}
    partitions = [SimpleNamespace(mountpoint=where, fstype=kind) for where, kind in mounts.items()]
    monkeypatch.setattr("psutil.disk_partitions", lambda all: partitions)
    assert over_network(path) is network
    layout = SimpleNamespace(folder=lambda name: path)
    assert watch.new_watcher(layout, "auto").watching is not network  # type: ignore[arg-type]


@pytest.mark.parametrize(("setting", "watching"), [("inotify", True), ("polling", False)])
def test_the_settings_have_the_last_word(layout: Layout, setting: Literal["inotify", "polling"], watching: bool) -> None:
    with watch.new_watcher(layout, setting) as watcher:
        assert watcher.watching is watching
