from __future__ import annotations

import errno
import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import builders as b
import pytest

from fifomark import inspect_model
from fifomark.cli.main import main
from fifomark.core.errors import InternalError
from fifomark.sanitizer import opening

FIFOMARK = str(Path(sys.executable).parent / "fifomark")
SHAPES = {"weight": (10, 64), "bias": (10,)}


def inspect(*args: object, cwd: Path) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [FIFOMARK, "inspect", *(a if isinstance(a, bytes) else str(a) for a in args)],
        capture_output=True,
        timeout=120,
        cwd=cwd,
        check=False,
    )


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One file of each level: nothing, note, warning, invalid, unsafe."""
    folder = tmp_path_factory.mktemp("models")
    bodies = {
        "nothing": b.logistic(),
        "note": b.state_dict({f"module.{name}": shape for name, shape in SHAPES.items()}),
        "warning": b.state_dict(SHAPES, 0, (b.text("args"), b.new("argparse.Namespace"))),
        "invalid": b"no model",
        "unsafe": b.unsafe(folder / "RAN"),
    }
    for name, body in bodies.items():
        (folder / f"{name}.pt").write_bytes(body)
    return folder


@pytest.mark.parametrize(
    ("level", "failing"),
    [
        ("note", {"note", "warning", "invalid", "unsafe"}),
        ("warning", {"warning", "invalid", "unsafe"}),
        ("invalid", {"invalid", "unsafe"}),
        ("unsafe", {"unsafe"}),
        ("never", set()),
    ],
)
def test_fail_on_says_from_which_level_on_the_answer_is_no(models: Path, level: str, failing: set[str]) -> None:
    names = ["nothing", "note", "warning", "invalid", "unsafe"]
    codes = {name: inspect("--fail-on", level, f"{name}.pt", cwd=models).returncode for name in names}
    assert codes == {name: int(name in failing) for name in names}
    assert not (models / "RAN").exists()


def test_one_bad_file_among_good_ones_fails_and_invalid_is_the_level_unless_another_is_named(models: Path) -> None:
    assert inspect("nothing.pt", "invalid.pt", "nothing.pt", cwd=models).returncode == 1
    assert inspect("warning.pt", "note.pt", cwd=models).returncode == 0


def test_help_names_the_levels_and_formats(models: Path) -> None:
    said = inspect("--help", cwd=models).stdout
    assert all(word in said for word in (b"--fail-on", b"note|warning|invalid|unsafe|never", b"table|json|sarif"))


def test_sarif_is_one_log_of_all_files_at_the_end(models: Path) -> None:
    done = inspect("--format", "sarif", "invalid.pt", "nothing.pt", "unsafe.pt", cwd=models)
    assert done.returncode == 1
    (run,) = json.loads(done.stdout)["runs"]
    assert [artifact["location"]["uri"] for artifact in run["artifacts"]] == ["invalid.pt", "nothing.pt", "unsafe.pt"]
    assert {(r["ruleId"], r["level"]) for r in run["results"]} >= {("FM106", "error"), ("FM201", "error"), ("FM206", "note")}
    assert done.stdout == inspect("--format", "sarif", "invalid.pt", "nothing.pt", "unsafe.pt", cwd=models).stdout


def test_a_name_that_is_no_text_gives_a_valid_log(tmp_path: Path) -> None:
    name = b"\xff\n\x1b[31m.pt"
    (tmp_path / os.fsdecode(name)).write_bytes(b.logistic())
    done = inspect("--format", "sarif", name, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (artifact,) = json.loads(done.stdout)["runs"][0]["artifacts"]
    assert artifact["location"]["uri"] == "%FF%0A%1B%5B31m.pt"


def test_sarif_of_a_file_that_is_not_there_is_no_log_but_a_message(tmp_path: Path) -> None:
    done = inspect("--format", "sarif", "nobody.pt", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, b"")


@pytest.fixture
def locked(models: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that this process may not read, be it root's or not."""
    path = models / "locked.pt"
    path.write_bytes(b.logistic())
    honest_open, honest_access = os.open, os.access

    def opening(name: str, *rest: int, **options: int) -> int:
        if name == str(path):
            raise PermissionError(errno.EACCES, "Permission denied", name)
        return honest_open(name, *rest, **options)

    monkeypatch.setattr(os, "open", opening)
    monkeypatch.setattr(os, "access", lambda name, *rest, **options: str(name) != str(path) and honest_access(name, *rest, **options))
    return path


def test_a_file_that_may_not_be_read_is_a_finding_and_the_others_are_inspected(
    models: Path, locked: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", "--json", str(models / "nothing.pt"), str(locked), str(models / "note.pt")]) == 1
    seen = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [one["verdict"] for one in seen] == ["clean", "invalid", "clean"]
    (finding,) = seen[1]["findings"]
    assert (finding["code"], finding["message"]) == ("FM104", "cannot be opened: Permission denied")


def test_sanitize_and_the_library_say_the_same_of_it(models: Path, locked: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["sanitize", str(locked), "-o", str(models / "clean.pt")]) == 1
    assert "FM104" in capfd.readouterr().out
    assert not (models / "clean.pt").exists()
    assert [finding.code for finding in inspect_model(locked).findings] == ["FM104"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_permissions_of_the_file_system_are_a_finding(tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(b.logistic())
    (tmp_path / "a.pt").chmod(0)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder").chmod(0)
    done = inspect("--json", "a.pt", "folder/b.pt", cwd=tmp_path)
    (tmp_path / "folder").chmod(0o700)
    assert done.returncode == 1
    assert [json.loads(line)["findings"][0]["code"] for line in done.stdout.splitlines()] == ["FM104", "FM104"]


def test_an_error_of_ours_is_said_and_the_other_files_are_inspected(
    models: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    honest = opening.open_submission

    def failing(path: str) -> object:
        if path.endswith("note.pt"):
            raise OSError(errno.ENFILE, "Too many open files in system", path)
        return honest(path)

    monkeypatch.setattr("fifomark.sanitizer.sanitizer.open_submission", failing)
    assert main(["inspect", "--json", *(str(models / name) for name in ("unsafe.pt", "note.pt", "nothing.pt"))]) == 3
    said = capfd.readouterr()
    assert [json.loads(line)["verdict"] for line in said.out.splitlines()] == ["unsafe", "clean"]
    assert "Too many open files in system" in said.err
    assert "note.pt" in said.err


def test_a_name_that_nothing_can_bear_is_no_missing_file(tmp_path: Path) -> None:
    done = inspect("--json", "x" * 300 + ".pt", cwd=tmp_path)
    assert (done.returncode, json.loads(done.stdout)["findings"][0]["message"]) == (1, "cannot be opened: File name too long")


COUNT = "from fifomark.cli.progress import counted\nfor i in counted('counting', range(3), 3, patience=-1): print(i)"


def test_counting_says_nothing_and_loads_no_display_where_stderr_is_no_terminal() -> None:
    code = f"{COUNT}\nimport sys\nassert 'rich' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == (b"0\n1\n2\n", b"")


def test_counting_shows_a_bar_on_a_terminal_and_leaves_stdout_alone() -> None:
    ours, theirs = pty.openpty()
    try:
        done = subprocess.run(
            [sys.executable, "-c", COUNT],
            stdout=subprocess.PIPE,
            stderr=theirs,
            env={**os.environ, "TERM": "xterm"},
            timeout=60,
            check=True,
        )
        shown = os.read(ours, 100_000)
    finally:
        os.close(ours)
        os.close(theirs)
    assert done.stdout == b"0\n1\n2\n"
    assert b"counting" in shown
    assert b"3/3" in shown


def test_a_file_that_we_fail_over_is_told_and_the_others_are_shown(
    models: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from fifomark.cli import inspect as verb
    from fifomark.cli.main import main

    honest = verb._inspected

    def failing(*args: Any) -> Iterator[Any]:
        yield InternalError("the writer failed")
        yield from list(honest(*args))[1:]

    monkeypatch.setattr(verb, "_inspected", failing)
    assert main(["inspect", "--json", str(models / "nothing.pt"), str(models / "note.pt"), str(models / "unsafe.pt")]) == 3
    said = capsys.readouterr()
    assert [Path(json.loads(line)["path"]).name for line in said.out.splitlines()] == ["note.pt", "unsafe.pt"]
    assert said.err == f"fifomark: {models / 'nothing.pt'}: the writer failed\n"
