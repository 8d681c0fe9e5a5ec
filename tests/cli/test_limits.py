"""Limits of the shell that are lower than our own: what can be done within them is done, and what cannot be says so."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import builders
import pytest

FIFOMARK = str(Path(sys.executable).parent / "fifomark")


def inspected(limit: str, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    (folder / "a.pt").write_bytes(builders.logistic())
    command = f"ulimit {limit}; exec {FIFOMARK} inspect --json {' '.join(options)} a.pt"
    return subprocess.run(command, shell=True, capture_output=True, text=True, cwd=folder, timeout=60, check=False)


@pytest.mark.parametrize("limit", ["-t 5", "-t 3", "-v 700000", "-c 0", "-n 64"])
def test_within_lower_limits_a_file_is_read_all_the_same(tmp_path: Path, limit: str) -> None:
    done = inspected(limit, tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["verdict"] == "clean"


@pytest.mark.parametrize("limit", ["-n 16", "-S -n 16"])
def test_where_too_few_files_may_be_open_it_is_said_what_to_do(tmp_path: Path, limit: str) -> None:
    done = inspected(limit, tmp_path)
    assert (done.returncode, done.stdout) == (3, "")
    assert "only 16 files may be open" in done.stderr
    assert "ulimit -n 64" in done.stderr


def test_a_batch_needs_more_open_files_than_one(tmp_path: Path) -> None:
    assert inspected("-n 300", tmp_path).returncode == 0
    assert "ulimit -n 540" in inspected("-n 300", tmp_path, "--isolation", "batch").stderr
    assert inspected("-n 540", tmp_path, "--isolation", "batch").returncode == 0


FULL_BATCHES = """
import sys
from fifomark.core.policy import Isolation
from fifomark.sanitizer.sanitizer import Job, Sanitizer
with Sanitizer(isolation=Isolation.BATCH) as one:
    print({str(getattr(seen, "verdict", seen)) for seen in one.inspect_all(Job("a.pt", clean_to=f"{i}.clean") for i in range(300))})
"""


def test_what_is_asked_for_is_enough_for_full_batches(tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(builders.logistic())
    command = f"ulimit -n 540; exec {sys.executable} -c '{FULL_BATCHES}'"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, cwd=tmp_path, timeout=120, check=False)
    assert done.stdout == "{'clean'}\n", done.stderr
