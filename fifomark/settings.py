"""The settings of a spool: `fifomark.toml`, parsed once, closed."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta

from fifomark.core.decode import read_toml
from fifomark.core.errors import ConfigError
from fifomark.core.policy import Isolation, Limits, Policy, Positive, Seconds
from fifomark.core.record import Record

FILE_NAME = "fifomark.toml"


class LogFormat(StrEnum):
    TEXT = "text"
    JSON = "json"


class Retention(Record):
    """What is kept of submissions that have ended, all of it where nothing is said: files of those that ended no more than
    `older_than_days` ago, of the newest `keep`, and as many as make `max_bytes` together. Reports stay, unless `reports` says that they go
    as well."""

    older_than_days: Annotated[float, Meta(ge=0, le=36500)] | None = None
    keep: Annotated[int, Meta(ge=0)] | None = None
    max_bytes: Annotated[int, Meta(ge=0)] | None = None
    reports: bool = False

    @property
    def limits_anything(self) -> bool:
        return (self.older_than_days, self.keep, self.max_bytes) != (None, None, None)


class Settings(Record):
    """`slots` is "auto", or one entry a slot (docs/slots.md): "cpu", "cpu:2" (two threads), "cuda:0", "cuda:GPU-…", "cuda:0/2" (a half).
    `cpu_memory_mib` is what each slot of the CPU has for a submission; the whole machine's, where nothing is said.

    `order`: by each file's own mtime, or by arrival, which nobody can forge. Times are in seconds. `watch`: whether the kernel says when a
    file comes, or the folder is listed every second; "auto" does the latter on network file systems. In any case all of it is listed every
    `rescan_seconds`. `sandbox`: see sandbox.enter; `isolation`: what shares a process that reads hostile bytes. `plugins`: families of
    networks besides our own, by the names of their entry points; those that a rubric names need not stand here. `grace_seconds`: what
    runs may take to end once the daemon is to stop. `min_free_bytes` stay free on the spool's disk (None: spool.space).
    """

    schema: Literal["fifomark.settings/1"]
    slots: Literal["auto"] | Annotated[tuple[str, ...], Meta(min_length=1)] = "auto"
    cpu_memory_mib: Positive | None = None
    sanitizers: Annotated[int, Meta(ge=1, le=64)] = 1
    default_rubric: str = "digits"
    order: Literal["mtime", "arrival"] = "mtime"
    settle_seconds: Annotated[float, Meta(ge=0, le=3600)] = 0.2
    watch: Literal["auto", "inotify", "polling"] = "auto"
    rescan_seconds: Seconds = 5.0
    max_attempts: Positive = 3
    grace_seconds: Annotated[float, Meta(ge=0, le=86400)] = 60.0
    min_free_bytes: Annotated[int, Meta(ge=0)] | None = None
    log_format: LogFormat = LogFormat.TEXT
    sandbox: Literal["auto", "required", "best-effort", "off"] = "auto"
    isolation: Isolation = Isolation.SUBMISSION
    plugins: tuple[str, ...] = ()
    policy: Policy = Policy()
    limits: Limits = Limits()
    retention: Retention = Retention()


def load_settings(root: str | Path) -> Settings:
    """The settings of the spool at `root`; ConfigError names file, key, what was found and what was meant."""
    path = Path(root, FILE_NAME)
    settings = read_toml(path, Settings)
    if settings.policy.torchscript:
        raise ConfigError(path, "policy.torchscript", "is for each rubric to say", "write torchscript = true under [model] of the rubric")
    for extension in settings.policy.extensions:
        if not extension.startswith(".") or extension != extension.lower():
            raise ConfigError(path, "policy.extensions", f"{extension!r} is no extension", "write it in lower case with its dot: '.pt'")
    return settings
