"""A little of what scripts/torture does at length: a daemon that is killed, without power, or refused a system call."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "trials",
    [
        ["--only", "kill", "--every", "40"],
        ["--only", "power", "--every", "40", "--isolation", "batch"],
        ["--only", "twice", "--every", "40"],
        ["--only", "error", "--every", "170"],
        ["--only", "kill", "--every", "60", "--retry"],
    ],
)
def test_nothing_is_lost_wherever_a_daemon_is_stopped_or_refused(trials: list[str]) -> None:
    done = torture("faults", *trials)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("0 things do not hold\n")


def test_nothing_is_lost_whenever_a_daemon_or_what_it_has_started_is_killed() -> None:
    done = torture("crash", "--kills", "4", "--submissions", "40", "--seed", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("all holds\n")


def torture(what: str, *options: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT}/scripts:{ROOT}/tests"}
    command = [sys.executable, "-m", f"torturing.{what}", *options]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280, check=False)
