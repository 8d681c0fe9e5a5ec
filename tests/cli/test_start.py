"""The first moments of a command."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import builders
import pytest

from fifomark.core.inspection import Inspection
from fifomark.sanitizer import launching
from fifomark.sanitizer.sanitizer import Sanitizer

# Ends in the middle of what a command imports: typer is the first that takes its time.
STOPPED = """
import os, sys
class Stopping:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}: os.kill(os.getpid(), {number})
from fifomark.cli.main import main
sys.meta_path.insert(0, Stopping())
sys.exit(main(["inspect", "a.pt"]))
"""


@pytest.mark.parametrize("module", ["typer", "fifomark.sanitizer.launching", "fifomark.sanitizer.sanitizer"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_a_command_gets_ready_ends_it_without_a_traceback(tmp_path: Path, module: str, number: int) -> None:
    (tmp_path / "a.pt").write_bytes(builders.logistic())
    program = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n" + STOPPED.format(
        module=module, number=int(number)
    )
    run = [sys.executable, "-c", program]
    done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (128 + number, "")


def test_a_writer_that_was_launched_ahead_is_the_first_that_is_wanted(tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(builders.logistic())
    launching.launch_ahead()
    (ahead,) = launching._ahead
    with Sanitizer() as sanitizer:
        assert sanitizer.pid == ahead.process.pid
        assert isinstance(sanitizer.inspect(tmp_path / "a.pt"), Inspection)
    assert launching._ahead == []


def test_a_writer_that_nobody_wanted_is_ended() -> None:
    launching.launch_ahead()
    (ahead,) = launching._ahead
    launching.end_ahead()
    assert ahead.process.returncode == -signal.SIGKILL
    assert launching._ahead == []


def test_a_wrong_use_leaves_no_writer_behind(tmp_path: Path) -> None:
    program = "import sys; from fifomark.cli.main import main; sys.exit(main(['inspect', '--nonsense', 'a.pt']))"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 2
    assert "--nonsense" in done.stderr
    assert "Warning" not in done.stderr


def test_the_command_is_there_as_a_module_too() -> None:
    told = subprocess.run([sys.executable, "-m", "fifomark", "--version"], capture_output=True, text=True, check=False, timeout=60)
    assert (told.returncode, told.stderr) == (0, "")
    assert told.stdout.startswith("fifomark ")
    wrong = subprocess.run([sys.executable, "-m", "fifomark", "inspekt"], capture_output=True, text=True, check=False, timeout=60)
    assert wrong.returncode == 2


@pytest.mark.parametrize("command", [["status"], ["inspect", "a.pt"]])
def test_a_command_imports_no_library_that_it_can_do_without(tmp_path: Path, command: list[str]) -> None:
    """Each of these takes as long to import as all else that the command does before it begins."""
    (tmp_path / "a.pt").write_bytes(builders.logistic())
    Path(tmp_path, "spool").mkdir()
    Path(tmp_path, "spool", "fifomark.toml").write_text('schema = "fifomark.settings/1"\n')
    heavy = {"torch", "numpy", "pydantic", "rich", "tabulate", "watchdog", "psutil"}
    program = f"import sys; from fifomark.cli.main import main; main({command}); sys.exit(' '.join({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert done.stderr.strip() == ""
