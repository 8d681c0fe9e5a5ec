"""What is in force on this machine and in a spool, and what is wrong with it: each fault with the next step."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import sqlite3
import time
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import Literal

import fifomark
from fifomark.core.errors import ConfigError, UsageError
from fifomark.core.record import Record
from fifomark.core.text import shown
from fifomark.daemon.look import open_ledger
from fifomark.daemon.rubrics import check_named, load_rubric_of
from fifomark.sandbox.enter import available
from fifomark.spool import probes
from fifomark.spool.lock import holder
from fifomark.spool.mounts import over_network
from fifomark.spool.space import kept_free
from fifomark.spool.spool import Spool
from fifomark.workers.slots import find_slots

Level = Literal["ok", "note", "fault"]
_TIME_ERROR = 5  # adjtimex(2): the clock is not synchronised


class Finding(Record):
    """`about` is what was looked at; `advice` is the next step, where there is one."""

    about: str
    level: Level
    message: str
    advice: str = ""


def examine(root: str | os.PathLike[str]) -> Iterator[Finding]:
    """The machine, then the spool at `root`. What stands in the way of a look is a fault, too."""
    for about, look in (("versions", _versions), ("sandbox", _sandbox), ("clock", _clock)):
        yield from _looked(about, look)
    try:
        spool = Spool(root)
    except (UsageError, OSError) as e:
        yield Finding(about="spool", level="fault", message=str(e), advice="fifomark init makes a spool; nothing else of it was looked at")
        return
    for about, of_spool in _OF_SPOOL:
        yield from _looked(about, lambda: of_spool(spool))  # noqa: B023 (it is called at once)


def _looked(about: str, look: Callable[[], Iterator[tuple[Level, str, str]]]) -> Iterator[Finding]:
    try:
        for level, message, advice in look():
            yield Finding(about=about, level=level, message=shown(message, 1000), advice=advice)
    except (UsageError, OSError) as e:
        yield Finding(about=about, level="fault", message=shown(str(e), 1000))


Looks = Iterator[tuple[Level, str, str]]


def _versions() -> Looks:
    found = {name: _version(name) for name in ("torch", "torchmetrics", "numpy", "watchdog")}
    words = [f"fifomark {fifomark.__version__}", f"Python {platform.python_version()}", *(f"{name} {v}" for name, v in found.items() if v)]
    yield "ok", ", ".join(words), ""
    for name, there in found.items():
        if there is None:
            yield "fault", f"{name} is not installed", "install fifomark again: pip install -r requirements.txt"


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _sandbox() -> Looks:
    kernel, offered = platform.release(), available()
    if all(offered):
        yield "ok", f"Landlock (version {offered.landlock}) and seccomp, Linux {kernel}", ""
        return
    missing = " and ".join(name for name, there in (("Landlock", offered.landlock), ("seccomp", offered.seccomp)) if not there)
    advice = "a kernel from 5.13 on with Landlock among its security modules (/sys/kernel/security/lsm) has it"
    yield "fault", f"{missing} cannot be had on Linux {kernel}: what reads submissions is less locked down", advice


def _clock() -> Looks:
    if time.time() < 1_735_689_600:  # 2025: before this was written
        yield "fault", f"it is {time.strftime('%Y-%m-%d')}, says the clock", "set it: order, lateness and retention go by it"
    elif ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(512)) == _TIME_ERROR:
        yield "note", "nothing keeps the clock right (no NTP)", "order and lateness go by it: timedatectl set-ntp true"
    else:
        yield "ok", "synchronised", ""


def _settings(spool: Spool) -> Looks:
    check_named(spool)
    yield "ok", f"{spool.layout.settings} is right", ""


def _rubrics(spool: Spool) -> Looks:
    for name in spool.rubrics():
        try:
            load_rubric_of(spool, name)
        except ConfigError as e:
            yield "fault", str(e), f"fifomark rubric check {spool.layout.rubric(name)} says more"
        else:
            yield "ok", f"{name} is right", ""


def _slots(spool: Spool) -> Looks:
    slots = find_slots(spool.settings.slots, file=spool.layout.settings)
    yield "ok", ", ".join(slot.name for slot in slots), ""
    if spool.settings.slots == "auto" and all(slot.device == "cpu" for slot in slots) and os.path.exists("/proc/driver/nvidia/version"):
        yield "fault", "there is an NVIDIA driver, and no GPU was found", "nvidia-smi says why; CUDA_VISIBLE_DEVICES may hide them"


def _folders(spool: Spool) -> Looks:
    layout = spool.layout
    if away := probes.elsewhere(layout):
        yield "fault", f"{', '.join(away)} lie on another file system: no file can be moved there", "keep all folders of a spool on one"
    if loose := probes.open_to_all(layout):
        yield "fault", f"everybody may write to {', '.join(loose)}", "chmod o-w: submitters need incoming/ only"
    if not probes.never_overwrites(layout):
        yield "fault", "a rename replaces what is there", "use another file system: files could be lost"
    if not away and not loose:
        yield "ok", f"one file system, for us only but for incoming/ ({layout.root})", ""
    ours = abs(offset := probes.clock_offset(layout)) <= 2
    if not ours:
        yield "note", f"its clock is {offset:+.0f} s off ours", 'set both, or order = "arrival" in the settings'


def _uploads(spool: Spool) -> Looks:
    if probes.has_leases(spool.layout):
        yield "ok", "the kernel tells which files are still written (leases)", ""
    else:
        advice = f"only settle_seconds ({spool.settings.settle_seconds:g}) decides: raise it, or upload under a name that ends in .part"
        yield "note", "nobody tells which files are still written (no leases here)", advice


def _watching(spool: Spool) -> Looks:
    if spool.settings.watch == "polling" or (spool.settings.watch == "auto" and over_network(spool.layout.folder("incoming"))):
        yield "ok", "incoming/ is listed every second (polling)", ""
    elif not probes.can_be_watched(spool.layout):
        advice = "raise fs.inotify.max_user_watches or fs.inotify.max_user_instances (sysctl); until then a timer finds what comes"
        yield "fault", "incoming/ cannot be watched", advice
    else:
        limits = [f"{name} {_sysctl(name)}" for name in ("max_user_watches", "max_user_instances")]
        yield "ok", f"inotify ({', '.join(limits)})", ""


def _sysctl(name: str) -> str:
    with open(f"/proc/sys/fs/inotify/{name}", encoding="ascii") as file:
        return file.read().strip()


def _space(spool: Spool) -> Looks:
    seen = os.statvfs(spool.layout.root)
    free, kept = seen.f_bavail * seen.f_frsize, kept_free(seen, spool.settings.min_free_bytes)
    words = f"{free / 1e9:,.1f} GB are free, {kept / 1e9:,.1f} GB stay free"
    advice = "make room: fifomark prune --dry-run --older-than 30d"
    if free < kept:
        yield "fault", f"{words}: nothing new is taken", advice
    elif seen.f_files and seen.f_favail < 10_000:
        yield (
            "fault",
            f"{seen.f_favail} more files can be made on this disk (inodes)",
            "make room: fifomark prune --dry-run --older-than 30d",
        )
    else:
        yield "ok", words, ""


def _ledger(spool: Spool) -> Looks:
    path = spool.layout.ledger
    if over_network(path):
        advice = f"put it on a disk of this machine: ln -s /var/lib/fifomark/ledger.sqlite3 {path}"
        yield "fault", "it lies on a network file system, where SQLite may lose it", advice
    ledger = open_ledger(spool.layout)
    if ledger is None:
        yield "ok", f"none yet; SQLite {sqlite3.sqlite_version}", ""
        return
    with contextlib.closing(ledger):
        mode, rows = ledger.upkeep.journal_mode(), sum(ledger.counts().values())
    if mode != "wal":
        yield "fault", f"its journal mode is {mode}, not wal", "a start of fifomark serve or drain sets it"
    else:
        yield "ok", f"SQLite {sqlite3.sqlite_version}, journal mode wal, {rows} submissions; fifomark fsck compares it with the folders", ""


def _daemon(spool: Spool) -> Looks:
    card = holder(spool.layout)
    if card is None:
        yield "ok", "none runs", ""
        return
    yield (
        "ok",
        f"{card.daemon.mode}, process {card.daemon.pid} on {card.daemon.host}, since {card.daemon.started_at:%Y-%m-%d %H:%M:%S} UTC",
        "",
    )
    for slot in card.slots:
        if slot.state == "out of service":
            yield "fault", f"slot {slot.name} is out of service: {slot.why}", "mend what it says, and restart the daemon"
    for notice in card.notices:
        yield "fault", notice, ""


_OF_SPOOL: tuple[tuple[str, Callable[[Spool], Looks]], ...] = (
    ("settings", _settings),
    ("rubrics", _rubrics),
    ("slots", _slots),
    ("folders", _folders),
    ("uploads", _uploads),
    ("watching", _watching),
    ("space", _space),
    ("ledger", _ledger),
    ("daemon", _daemon),
)
