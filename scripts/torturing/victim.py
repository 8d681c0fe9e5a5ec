"""The daemon as a process with all that it has started: whom to kill, and what it says."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

_LAST_WORDS = "no slot is left to go on with"  # what a daemon may end with by itself, when every worker was killed before it was ready
# What a process says that was being started when its parent died, or when its child was killed that it was starting.
_LAST = (
    r"EOFError: Ran out of input|_pickle\.UnpicklingError: .*|fifomark\.core\.errors\.InternalError: the (?:writer|parser) cannot be st.*"
)
_HALF_STARTED = re.compile(rf"Traceback \(most recent call last\):\n(?:  .*\n)*(?:{_LAST})")
_FOLDERS = ("done", "rejected", "failed")


class Victim:
    """`fifomark serve` on a spool, started again when it is dead; what it says goes to the file `log`. `real`: with torch."""

    def __init__(self, root: Path, log: Path, *, real: bool) -> None:
        self._root, self._log = root, log
        self._command = [str(Path(sys.executable).parent / "fifomark")] if real else [sys.executable, "-m", "torturing.light"]
        self._process: subprocess.Popen[bytes] | None = None
        self._heard = 0
        self._seen: tuple[int, ...] = ()

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        if not self.alive:
            self._seen = self._ended()
            with self._log.open("ab") as log:
                self._process = subprocess.Popen([*self._command, "serve", "--spool", str(self._root)], stderr=log, stdout=log)

    def await_progress(self, seconds: float) -> None:
        """Until something has ended since the start, or the daemon has."""
        until = time.monotonic() + seconds
        while time.monotonic() < until and self.alive and self._ended() == self._seen:
            time.sleep(0.005)

    def kill(self, target: str) -> str:
        """Kill whom `target` names, the daemon where there is no such process now; returns who it was. Waits until nobody is left of a
        daemon that was killed."""
        if self._process is None:
            return "nobody"
        everyone = _descendants(self._process.pid)
        victims = (
            [process for process in everyone if _role(process, self._process.pid) == target] if target not in ("daemon", "all") else []
        )
        if victims:
            _kill(victims[0])
            return target
        for process in everyone if target == "all" else ():
            _kill(process)
        self._process.kill()
        self._process.wait()
        until = time.monotonic() + 20.0
        while left := [process for process in everyone if _is_alive(process)]:
            if time.monotonic() > until:
                raise RuntimeError(f"they outlive their daemon: {[(process.pid, process.cmdline()) for process in left]}")
            time.sleep(0.002)
        return target if target == "all" else "daemon"

    def complaints(self) -> list[str]:
        """What the daemon has said since the last call that it should not have, and how it ended if it should not have ended."""
        code = self._process.poll() if self._process is not None else None
        said = self._log.read_bytes()[self._heard :].decode(errors="replace")
        self._heard += len(said.encode())
        wrong = [f"it says: {said}"] if "Traceback" in _HALF_STARTED.sub("", said) else []
        if code not in (None, -signal.SIGKILL) and not (code == 3 and _LAST_WORDS in said):
            wrong.append(f"it ended by itself with {code}: {said}")
        return wrong

    def drain(self) -> list[str]:
        """Let it finish; what is wrong with how it does."""
        done = subprocess.run([*self._command, "drain", "--spool", str(self._root)], capture_output=True, text=True, check=False)
        return [f"drain ended with {done.returncode}: {done.stderr}"] if done.returncode or done.stderr else []

    def _ended(self) -> tuple[int, ...]:
        return tuple(os.stat(self._root / folder).st_mtime_ns for folder in _FOLDERS)


def _descendants(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _role(process: psutil.Process, daemon: int) -> str:
    """By how it was started, and by whom."""
    with contextlib.suppress(psutil.Error):
        line = " ".join(process.cmdline())
        if "writer_server" in line:  # the parser and its children are forks of the writer
            above = process.parent()
            return "parser" if above is not None and "writer_server" in " ".join(above.cmdline()) else "writer"
        if process.ppid() == daemon and "spawn_main" in line:
            started_writer = any("writer_server" in " ".join(child.cmdline()) for child in process.children())
            return "sanitizer" if started_writer else "slot"
    return "other"


def _is_alive(process: psutil.Process) -> bool:
    """Not one that only waits to be buried by whoever inherited it."""
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _kill(process: psutil.Process) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        process.kill()
