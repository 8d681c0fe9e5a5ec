"""Limits of the shell that are lower than our own: what can be done within them is done, and what cannot be says so."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import builders
import pytest

FIFOMARK = str(Path(sys.executable).parent / "fifomark")


def inspected(limit: str, folder: Path) -> subprocess.CompletedProcess[str]:
    (folder / "a.pt").write_bytes(builders.logistic())
    command = f"ulimit {limit}; exec {FIFOMARK} inspect --json a.pt"
    return subprocess.run(command, shell=True, capture_output=True, text=True, cwd=folder, timeout=60, check=False)


@pytest.mark.parametrize("limit", ["-t 5", "-t 3", "-v 700000", "-c 0", "-n 128"])
def test_within_lower_limits_a_file_is_read_all_the_same(tmp_path: Path, limit: str) -> None:
    done = inspected(limit, tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["verdict"] == "clean"


@pytest.mark.parametrize("limit", ["-n 16", "-S -n 16"])
def test_where_too_few_files_may_be_open_it_is_said_what_to_do(tmp_path: Path, limit: str) -> None:
    done = inspected(limit, tmp_path)
    assert (done.returncode, done.stdout) == (3, "")
    assert "only 16 files may be open" in done.stderr
    assert "ulimit -n 128" in done.stderr
