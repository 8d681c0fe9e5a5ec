"""A daemon that is stopped, without power, or refused a system call, at steps of a small scenario (scripts/torture faults takes all)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(("how", "every"), [("kill", 40), ("power", 40), ("twice", 40), ("error", 170)])
def test_nothing_is_lost_wherever_a_daemon_is_stopped_or_refused(how: str, every: int) -> None:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT}/scripts:{ROOT}/tests"}
    command = [sys.executable, "-m", "torturing.faults", "--only", how, "--every", str(every)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("0 things do not hold\n")
