"""What systemd hears, through real datagram sockets."""

from __future__ import annotations

import logging
import os
import secrets
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fifomark.daemon.notify import Notifier


@pytest.fixture(params=["path", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    name = str(tmp_path / "notify") if request.param == "path" else f"@fifomark-test-{secrets.token_hex(8)}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind("\0" + name[1:] if name.startswith("@") else name)
        listening.settimeout(5)
        yield name, listening


def test_every_message_is_one_datagram_of_lines(systemd: tuple[str, socket.socket]) -> None:
    address, listening = systemd
    notifier = Notifier({"NOTIFY_SOCKET": address})
    before = time.monotonic_ns() // 1000
    notifier.ready()
    notifier.reloading()
    notifier.status("3 waiting")
    notifier.status("3 waiting")  # nothing new
    notifier.stopping()
    assert listening.recv(4096) == b"READY=1"
    reloading, since = listening.recv(4096).decode().split("\n")
    assert reloading == "RELOADING=1"
    assert before <= int(since.removeprefix("MONOTONIC_USEC=")) <= time.monotonic_ns() // 1000
    assert listening.recv(4096) == b"STATUS=3 waiting"
    assert listening.recv(4096) == b"STOPPING=1"
    notifier.close()


def test_the_watchdog_is_petted_in_time_and_not_at_every_turn(systemd: tuple[str, socket.socket]) -> None:
    address, listening = systemd
    notifier = Notifier({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "60000000", "WATCHDOG_PID": str(os.getpid())})
    assert notifier.patience == 30
    for _ in range(100):
        notifier.pet()
    assert listening.recv(4096) == b"WATCHDOG=1"
    listening.setblocking(False)
    with pytest.raises(BlockingIOError):
        listening.recv(4096)
    notifier.close()


def test_a_watchdog_of_another_process_is_not_ours_to_pet(systemd: tuple[str, socket.socket]) -> None:
    address, _ = systemd
    notifier = Notifier({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "1"})
    assert notifier.patience == float("inf")
    notifier.close()


def test_workers_inherit_nothing_to_speak_with() -> None:
    environment = {"NOTIFY_SOCKET": "/nowhere", "WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1", "PATH": "/bin"}
    Notifier(environment).close()
    assert environment == {"PATH": "/bin"}


def test_without_systemd_nothing_is_said() -> None:
    notifier = Notifier({})
    notifier.ready()
    notifier.pet()
    assert notifier.patience == float("inf")


def test_a_manager_that_is_gone_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")})
    with caplog.at_level(logging.WARNING):
        notifier.ready()
    assert "READY=1" in caplog.text
    notifier.close()
