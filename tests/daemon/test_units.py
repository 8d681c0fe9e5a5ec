"""What systemd and cron are told: held against systemd's own judgement, and run by a shell as cron would."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from pathlib import Path

import builders
import pytest

from fifomark.core.errors import UsageError
from fifomark.daemon import units
from fifomark.daemon.new import make_spool

STRANGE = 'my % spool "of" $HOME \\ö'


@pytest.fixture(params=["spool", STRANGE])
def spool(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    make_spool(tmp_path / request.param)
    return tmp_path / str(request.param)


def lines(unit: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in unit.splitlines() if "=" in line and not line.startswith("#"))  # type: ignore[misc]


def understood(quoted: str) -> str:
    """As systemd reads a quoted word of ours, variables aside."""
    assert quoted[0] == quoted[-1] == '"'
    return quoted[1:-1].replace('\\"', '"').replace("\\\\", "\\").replace("%%", "%").replace("$$", "$")


def test_the_unit_names_this_fifomark_and_this_spool_by_absolute_paths(spool: Path) -> None:
    unit = lines(units.systemd_unit(spool))
    program, rest = unit["ExecStart"].split(" ", 1)
    assert os.access(understood(program), os.X_OK)
    assert rest.startswith('"serve" "--spool" ')
    assert understood(rest.removeprefix('"serve" "--spool" ')) == str(spool)
    paths = unit["ReadWritePaths"].removesuffix(' "/tmp" "/var/tmp"')  # this spool lies in /tmp
    assert understood(paths) == str(spool)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_systemd_has_nothing_to_say_against_it(spool: Path, tmp_path: Path) -> None:
    (tmp_path / "fifomark.service").write_text(units.systemd_unit(spool))
    done = subprocess.run(["systemd-analyze", "verify", tmp_path / "fifomark.service"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    broken = tmp_path / "broken.service"
    broken.write_text(units.systemd_unit(spool).replace("WatchdogSec=120", "WatchdogSec=soon"))  # it does look
    assert "soon" in subprocess.run(["systemd-analyze", "verify", broken], capture_output=True, text=True, check=False).stderr


def test_the_kill_comes_after_the_grace_time(tmp_path: Path) -> None:
    make_spool(tmp_path / "spool")
    settings = tmp_path / "spool/fifomark.toml"
    settings.write_text(settings.read_text().replace("grace_seconds = 60.0", "grace_seconds = 300.0"))
    unit = lines(units.systemd_unit(tmp_path / "spool"))
    assert float(unit["TimeoutStopSec"]) > 300
    assert (unit["Type"], unit["KillMode"], unit["OOMPolicy"]) == ("notify", "mixed", "continue")


def test_nothing_is_set_that_marking_would_not_survive(spool: Path) -> None:
    unit = lines(units.systemd_unit(spool))
    deadly = "MemoryDenyWriteExecute SystemCallFilter PrivateDevices DevicePolicy DeviceAllow ProtectClock RestrictNamespaces PrivateUsers"
    assert not {*deadly.split(), "MemoryMax", "LimitAS", "ProcSubset"} & set(unit)
    assert unit["NoNewPrivileges"] == "yes"
    # This spool lies in /tmp: one of its own would hide it, and torch has to have one to write to.
    assert unit["PrivateTmp"] == "no"
    assert unit["ReadWritePaths"].endswith(' "/tmp" "/var/tmp"')


def test_it_runs_as_the_spools_owner_or_as_who_is_named_and_exists(spool: Path) -> None:
    assert lines(units.systemd_unit(spool))["User"] == pwd.getpwuid(os.getuid()).pw_name
    other = lines(units.systemd_unit(spool, "nobody"))
    assert (other["User"], other["CapabilityBoundingSet"]) == ("nobody", "")
    with pytest.raises(UsageError, match="no such user"):
        units.systemd_unit(spool, "nobody-of-this-name")


def test_where_there_is_no_spool_there_is_no_unit(tmp_path: Path) -> None:
    for make in (units.systemd_unit, units.cron_line):
        with pytest.raises(UsageError, match=r"fifomark\.toml"):
            make(tmp_path)


def test_what_no_line_can_hold_is_refused(tmp_path: Path) -> None:
    make_spool(tmp_path / "two\nlines")
    for make in (units.systemd_unit, units.cron_line):
        with pytest.raises(UsageError, match="unprintable"):
            make(tmp_path / "two\nlines")


def test_the_cron_line_drains_the_spool_when_a_shell_runs_it(spool: Path) -> None:
    settings = spool / "fifomark.toml"
    settings.write_text(settings.read_text().replace('slots = "auto"', 'slots = ["cpu"]'))
    (spool / "incoming/eve.pt").write_bytes(builders.unsafe(spool / "RAN"))
    *_, line = units.cron_line(spool, 7).splitlines()
    *when, command = line.split(" ", 5)
    assert when == ["*/7", "*", "*", "*", "*"]
    assert "%" not in command.replace(r"\%", "")
    as_cron_does = command.replace(r"\%", "%")
    done = subprocess.run(["/bin/sh", "-c", as_cron_does], capture_output=True, text=True, cwd="/", timeout=120, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (spool / "rejected/00000001-eve.json").exists()
