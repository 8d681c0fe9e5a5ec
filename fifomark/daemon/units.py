"""What systemd and cron are told to run a spool: text to install, made for this machine and this spool."""

from __future__ import annotations

import os
import pwd
import shlex
import sys
from pathlib import Path

from fifomark.core.errors import UsageError
from fifomark.settings import load_settings
from fifomark.spool.layout import Layout

_MARGIN = 30.0  # seconds between the end of the grace time and the kill
_WATCHDOG = 120  # seconds: a turn of the loop takes milliseconds, with a million files or a slow disk some seconds

_TMP = ("/tmp", "/var/tmp")  # noqa: S108 (where systemd makes private ones)

_UNIT = """\
# fifomark: marks what is dropped into {spool}
# Install:  sudo cp this /etc/systemd/system/{unit}  &&  sudo systemctl daemon-reload  &&  sudo systemctl enable --now {unit}
[Unit]
Description=fifomark spool {description}
After=local-fs.target remote-fs.target nvidia-persistenced.service
RequiresMountsFor={mount}

[Service]
Type=notify
NotifyAccess=main
User={user}
ExecStart={command}
ExecReload=/bin/kill -HUP $MAINPID
# What runs may end within grace_seconds of the settings; then it is put back, and nothing is lost by the kill.
TimeoutStopSec={stop}
TimeoutStartSec=15min
WatchdogSec={watchdog}
Restart=on-failure
RestartSec=10
# 2: settings or a rubric are wrong. Trying again mends neither.
RestartPreventExitStatus=2
# The daemon stops its workers itself; one of them that runs out of memory is replaced.
KillMode=mixed
OOMPolicy=continue
LimitCORE=0

# It may write to its spool and nowhere else. Not here, because work would fail: MemoryDenyWriteExecute and SystemCallFilter (torch, and
# the sandbox's own system calls), PrivateDevices, DevicePolicy and ProtectClock (GPUs), RestrictNamespaces, ProcSubset.
NoNewPrivileges=yes
ProtectSystem=strict
ReadWritePaths={paths}
ProtectHome={home}
PrivateTmp={tmp}
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectHostname=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
SystemCallArchitectures=native
RestrictAddressFamilies=AF_UNIX AF_NETLINK
{capabilities}
[Install]
WantedBy=multi-user.target
"""


def program() -> list[str]:
    """How this fifomark is started, by absolute paths."""
    beside = Path(sys.prefix, "bin", "fifomark")
    return (
        [str(beside)] if beside.exists() else [sys.executable, "-P", "-c", "from fifomark.cli.main import main; raise SystemExit(main())"]
    )


def systemd_unit(root: str | os.PathLike[str], user: str | None = None) -> str:
    """A unit for the spool at `root`, hardened as far as marking allows. `user` is whose it runs as: without it, the spool's owner's.

    UsageError where there is no such user, SpoolError and ConfigError where there is no spool or its settings are wrong.
    """
    spool = _existing(root)
    settings = load_settings(spool)
    account = _account(spool, user)
    ledger = os.path.dirname(os.path.realpath(Layout(spool).ledger))
    paths = dict.fromkeys((str(spool), os.path.realpath(spool), ledger))
    seen = [*paths, os.path.realpath(sys.prefix), sys.prefix, os.path.dirname(os.path.abspath(__file__))]
    in_tmp = _below(seen, _TMP)  # a private /tmp would hide it; torch needs one to write to either way
    return _UNIT.format(
        spool=spool,
        unit="fifomark.service",
        description=_specifiers(str(spool)),
        mount=_word(str(spool)),
        user=account.pw_name,
        command=" ".join(_argument(word) for word in [*program(), "serve", "--spool", str(spool)]),
        stop=f"{settings.grace_seconds + _MARGIN:g}",
        watchdog=_WATCHDOG,
        paths=" ".join(map(_word, (*paths, *(_TMP if in_tmp else ())))),
        home="read-only" if _below(seen, ("/home", "/root", "/run/user")) else "yes",
        tmp="no" if in_tmp else "yes",
        # root reads what others drop by its capabilities; nobody else has any.
        capabilities="" if account.pw_uid == 0 else "CapabilityBoundingSet=\nAmbientCapabilities=\n",
    )


def cron_line(root: str | os.PathLike[str], minutes: int = 5) -> str:
    """Lines for `crontab`, which drain the spool at `root` every so many minutes; nothing happens where it is being drained already."""
    spool = _existing(root)
    words = [*program(), "drain", "--if-free", "--spool", str(spool)]
    return "\n".join(
        (
            "# fifomark: mail comes only where something goes wrong",
            "SHELL=/bin/sh",
            "PATH=/usr/local/bin:/usr/bin:/bin",
            f"*/{minutes} * * * * {shlex.join(words)}".replace("%", r"\%"),  # a % is a new line to cron
            "",
        )
    )


def _existing(root: str | os.PathLike[str]) -> Path:
    spool = Path(root).absolute()
    load_settings(spool)
    if not str(spool).isprintable():
        raise UsageError(f"{str(spool)!r}: a path with unprintable characters cannot stand in a unit or a crontab; give the spool another")
    return spool


def _account(spool: Path, user: str | None) -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(user) if user is not None else pwd.getpwuid(os.stat(spool).st_uid)
    except KeyError:
        whose = f"--user {user}" if user is not None else f"{spool}: its owner ({os.stat(spool).st_uid})"
        raise UsageError(f"{whose}: there is no such user; useradd --system makes one") from None


def _below(paths: list[str], roots: tuple[str, ...]) -> bool:
    return any(Path(path).is_relative_to(root) for path in paths for root in roots)


def _specifiers(text: str) -> str:
    return text.replace("%", "%%")


def _word(text: str) -> str:
    """One word of a list of paths (systemd.syntax(7))."""
    return '"' + _specifiers(text).replace("\\", "\\\\").replace('"', '\\"') + '"'


def _argument(text: str) -> str:
    """One word of a command line, in which $ stands for variables as well."""
    return _word(text).replace("$", "$$")
