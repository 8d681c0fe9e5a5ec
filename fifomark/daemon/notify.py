"""What systemd is told (sd_notify(3)): one datagram of lines for each message, to the socket that NOTIFY_SOCKET names."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import MutableMapping

_log = logging.getLogger(__name__)


class Notifier:
    """Takes its variables out of `environment`, so that no worker speaks in our name; says nothing where there are none."""

    def __init__(self, environment: MutableMapping[str, str] = os.environ) -> None:
        address = environment.pop("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address  # "@": in the abstract name space
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) if address[:1] in ("/", "@") else None
        if self._socket is not None:
            self._socket.settimeout(1.0)  # a manager that does not read must not stop us
        self._pet_every = _watchdog(environment)
        self._petted = 0.0
        self._status = ""

    @property
    def patience(self) -> float:
        """Seconds until `pet` has to be called again at the latest."""
        return self._pet_every if self._socket is not None else float("inf")

    def ready(self) -> None:
        self._say("READY=1")

    def reloading(self) -> None:
        """Until the next `ready`."""
        self._say("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        self._say("STOPPING=1")

    def status(self, text: str) -> None:
        """One line for `systemctl status`."""
        if text != self._status:
            self._say(f"STATUS={text}")
            self._status = text

    def pet(self) -> None:
        """Tell the watchdog that the loop still turns; it is told no more often than it wants to hear it."""
        now = time.monotonic()
        if now - self._petted >= self._pet_every / 2:
            self._say("WATCHDOG=1")
            self._petted = now

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _say(self, *lines: str) -> None:
        if self._socket is None:
            return
        try:
            self._socket.sendto("\n".join(lines).encode(), self._address)
        except OSError as e:
            _log.warning("systemd cannot be told %s: %s", lines[0], e)


def _watchdog(environment: MutableMapping[str, str]) -> float:
    """Seconds between two signs of life: half of what the watchdog waits for; for ever where there is none, or it waits for another."""
    wanted, whose = environment.pop("WATCHDOG_USEC", ""), environment.pop("WATCHDOG_PID", "")
    if not wanted.isdecimal() or int(wanted) == 0 or whose not in ("", str(os.getpid())):
        return float("inf")
    return int(wanted) / 2e6
