"""Standard streams that are closed, full, or that nobody reads: the same for every command."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import builders
import pytest

FIFOMARK = str(Path(sys.executable).parent / "fifomark")
PRINTING = [
    "inspect a.pt",
    "inspect a.pt --json",
    "inspect a.pt --format sarif",
    "sanitize a.pt -o b.pt",
    "--version",
    "--help",
    "inspect --help",
]
PRINTING += ["init spool"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a.pt").write_bytes(builders.logistic())
    return tmp_path


def run(arguments: str, folder: Path, redirected: str = "", stdout: int = subprocess.PIPE, **env: str) -> subprocess.CompletedProcess[str]:
    command = f"exec {FIFOMARK} {arguments} {redirected}"
    environment = {**os.environ, "PYTHONUNBUFFERED": "", **env}
    return subprocess.run(
        command, shell=True, stdout=stdout, stderr=subprocess.PIPE, text=True, cwd=folder, env=environment, timeout=60, check=False
    )


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("arguments", PRINTING)
def test_a_reader_that_has_seen_enough_ends_us_quietly_and_with_no_answer(folder: Path, arguments: str, unbuffered: str) -> None:
    """141 is what a shell makes of SIGPIPE; 1 would say that a file is unsafe, 0 that all is well."""
    reading, writing = os.pipe()
    os.close(reading)
    done = run(arguments, folder, stdout=writing, PYTHONUNBUFFERED=unbuffered)
    os.close(writing)
    assert done.returncode == 141
    assert not any(word in done.stderr for word in ("fifomark:", "Traceback", "Exception ignored"))


@pytest.mark.parametrize(("redirected", "why"), [(">&-", "Bad file descriptor"), ("> /dev/full", "No space left on device")])
@pytest.mark.parametrize("arguments", PRINTING)
def test_output_that_cannot_be_written_is_an_error_that_says_so(folder: Path, arguments: str, redirected: str, why: str) -> None:
    done = run(arguments, folder, redirected)
    assert done.returncode == 3
    assert done.stderr.splitlines()[-1].endswith(f"{why}: 'standard output'")
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


def test_messages_that_cannot_be_written_change_nothing(folder: Path) -> None:
    for redirected in ("2>&-", "2> /dev/full", "<&- 2>&-"):
        done = run("inspect --json a.pt", folder, redirected)
        assert (done.returncode, done.stdout.count("\n"), done.stdout[:1]) == (0, 1, "{")
        assert run("inspect nobody.pt", folder, redirected).returncode == 2
        assert run("inspect nobody.pt", folder, redirected).stdout == ""


def test_where_all_streams_are_closed_nothing_is_written_into_a_file_of_ours(folder: Path) -> None:
    assert run("sanitize a.pt -o plain.pt", folder).returncode == 0
    assert run("sanitize a.pt -o closed.pt", folder, "<&- >&- 2>&-").returncode == 3
    assert (folder / "closed.pt").read_bytes() == (folder / "plain.pt").read_bytes()
