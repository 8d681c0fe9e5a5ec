"""What an operator types: prune, doctor, service, and the other faces of status."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from fifomark.cli.quantities import days, shown_size, size
from fifomark.daemon.look import look

FIFOMARK = str(Path(sys.executable).parent / "fifomark")
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A spool in which three files were rejected."""
    root = tmp_path_factory.mktemp("made") / "spool"
    subprocess.run([FIFOMARK, "init", str(root)], check=True, capture_output=True)
    for name in ("a.pt", "b.pt", "c.pt"):
        (root / "incoming" / name).write_bytes(b"no model" * 100)
    subprocess.run([FIFOMARK, "drain", "--spool", str(root)], check=True, timeout=120)
    return root


@pytest.fixture
def spool(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "spool"))


@pytest.fixture
def run(spool: Path) -> Run:
    def it(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([FIFOMARK, *arguments, "--spool", str(spool)], capture_output=True, text=True, timeout=120, check=False)

    return it


@pytest.fixture
def serving(spool: Path) -> Iterator[None]:
    daemon = subprocess.Popen([FIFOMARK, "serve", "--spool", str(spool)], stderr=subprocess.DEVNULL)
    while look(spool).daemon is None:
        assert daemon.poll() is None
        time.sleep(0.05)
    yield
    daemon.terminate()
    assert daemon.wait(timeout=60) == 0


def kept(spool: Path) -> list[str]:
    return sorted(path.name for path in (spool / "rejected").iterdir() if path.suffix == ".quarantined")


def prunes(run: Run, spool: Path) -> None:
    assert run("prune", "--keep", "1", "--dry-run").stdout.startswith("would remove the files of 2 submissions, 1.6 KiB")
    assert len(kept(spool)) == 3
    done = json.loads(run("prune", "--keep", "1", "--json").stdout)
    assert (done["schema"], done["dry_run"], len(done["ids"]), done["freed_bytes"]) == ("fifomark.prune/1", False, 2, 1600)
    assert len(kept(spool)) == 1
    assert run("prune", "--max-bytes", "0", "--reports").returncode == 0
    assert list((spool / "rejected").iterdir()) == []
    assert run("fsck").returncode == 0
    assert look(spool).states["rejected"] == 3


def test_prune_works_where_nobody_holds_the_spool(run: Run, spool: Path) -> None:
    prunes(run, spool)


@pytest.mark.usefixtures("serving")
def test_prune_works_while_a_daemon_holds_the_spool(run: Run, spool: Path) -> None:
    prunes(run, spool)
    assert look(spool).daemon is not None


def test_prune_without_a_rule_keeps_those_of_the_settings_or_says_what_to_write(run: Run, spool: Path) -> None:
    done = run("prune")
    assert (done.returncode, "--older-than 30d" in done.stderr, len(kept(spool))) == (2, True, 3)
    settings = spool / "fifomark.toml"
    settings.write_text(settings.read_text().replace("# keep = 10_000", "keep = 0"))
    assert run("prune").stdout.startswith("removed the files of 3 submissions")
    assert kept(spool) == []


def test_the_daemon_keeps_the_retention_of_its_settings(spool: Path, request: pytest.FixtureRequest) -> None:
    settings = spool / "fifomark.toml"
    settings.write_text(settings.read_text().replace("# keep = 10_000", "keep = 1"))
    request.getfixturevalue("serving")
    end = time.monotonic() + 30
    while len(kept(spool)) > 1:
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.parametrize("option", ["--older-than=30 fortnights", "--max-bytes=ten", "--keep=-1", "--older-than="])
def test_a_quantity_that_is_none_is_wrong_usage(run: Run, spool: Path, option: str) -> None:
    done = run("prune", option)
    assert (done.returncode, "Traceback" in done.stderr, len(kept(spool))) == (2, False, 3)


def test_quantities_are_read_as_people_write_them() -> None:
    assert [days(text) for text in ("30d", "12h", "2w", "1.5 d", "86400s")] == [30, 0.5, 14, 1.5, 1]
    assert [size(text) for text in ("10G", "10GiB", "10gb", "1.5K", "7", "7B")] == [10 << 30, 10 << 30, 10 << 30, 1536, 7, 7]
    assert [shown_size(count) for count in (7, 1536, 10 << 30, 3 << 50)] == ["7 bytes", "1.5 KiB", "10.0 GiB", "3072.0 TiB"]


def test_metrics_are_written_whole_and_can_be_read_by_others(run: Run, spool: Path, tmp_path: Path) -> None:
    target = tmp_path / "collector/fifomark.prom"
    target.parent.mkdir()
    target.write_text("old")
    assert run("status", "--prometheus", "--output", str(target)).returncode == 0
    assert [path.name for path in target.parent.iterdir()] == ["fifomark.prom"]
    assert target.stat().st_mode & 0o044 == 0o044
    for text in (target.read_text(), run("status", "--prometheus").stdout):
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        assert [sample.value for sample in samples if sample.labels.get("state") == "rejected"] == [3]


def test_one_face_of_status_at_a_time(run: Run) -> None:
    for wrong in (["--json", "--prometheus"], ["--watch", "--json"], ["--output", "x"]):
        assert run("status", *wrong).returncode == 2
    assert "terminal" in run("status", "--watch").stderr


def test_watching_shows_what_happens_and_ctrl_c_leaves_the_terminal_as_it_was(spool: Path) -> None:
    child, terminal = pty.fork()
    if child == 0:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.environ["TERM"] = "xterm"
        os.execv(FIFOMARK, [FIFOMARK, "status", "--watch", "--spool", str(spool)])
    seen = read_until(terminal, b"3 rejected")
    assert b"\x1b[?1049h" in seen  # a screen of its own
    subprocess.run([FIFOMARK, "pause", "--spool", str(spool)], check=True, capture_output=True, timeout=60)
    read_until(terminal, b"paused")
    os.write(terminal, b"\x03")
    assert b"\x1b[?1049l" in (rest := read_until(terminal, None))
    assert b"Traceback" not in rest
    assert b"\x1b[?25h" in rest  # the cursor is back
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def read_until(terminal: int, wanted: bytes | None) -> bytes:
    """What comes up to `wanted`, or to the end; pytest-timeout bounds it."""
    seen = b""
    while wanted is None or wanted not in seen:
        try:
            more = os.read(terminal, 65536)
        except OSError as e:
            assert e.errno == errno.EIO  # noqa: PT017 (the end of a pseudo-terminal)
            break
        if not more:
            break
        seen += more
    return seen


def doctor(run: Run) -> dict[str, list[dict[str, str]]]:
    done = run("doctor", "--json")
    found: dict[str, list[dict[str, str]]] = {}
    for line in done.stdout.splitlines():
        seen = json.loads(line)
        found.setdefault(seen["about"], []).append(seen)
    faults = [seen for about in found.values() for seen in about if seen["level"] == "fault"]
    assert done.returncode == (1 if faults else 0)
    return found


def test_a_healthy_spool_has_no_faults(run: Run) -> None:
    found = doctor(run)
    assert [seen for about in found.values() for seen in about if seen["level"] == "fault"] == []
    assert "journal mode wal, 3 submissions" in found["ledger"][0]["message"]
    assert "Landlock" in found["sandbox"][0]["message"]
    table = run("doctor")
    assert "no faults" in table.stderr
    assert "ok     rubrics   digits is right" in table.stdout


def test_every_fault_is_named_with_the_next_step(run: Run, spool: Path) -> None:
    (spool / "rubrics/bad").mkdir()
    (spool / "rubrics/bad/rubric.toml").write_text("half")
    (spool / "done").chmod(0o777)
    settings = spool / "fifomark.toml"
    settings.write_text("min_free_bytes = 1_000_000_000_000_000\n" + settings.read_text().replace('slots = "auto"', 'slots = ["gpu"]'))
    found = doctor(run)
    faults = {about: seen["message"] + seen["advice"] for about, all in found.items() for seen in all if seen["level"] == "fault"}
    assert set(faults) == {"rubrics", "folders", "space", "slots"}
    assert "rubric check" in faults["rubrics"]
    assert "chmod" in faults["folders"]
    assert "done" in faults["folders"]
    assert "fifomark prune" in faults["space"]
    assert "'gpu' is no slot" in faults["slots"]
    assert list((spool / "control").glob(".doctor*")) == []


def test_a_spool_that_is_none_or_whose_settings_are_wrong_is_a_fault(run: Run, spool: Path) -> None:
    settings = spool / "fifomark.toml"
    settings.write_text("nonsense")
    assert "is not TOML" in doctor(run)["spool"][0]["message"]
    settings.unlink()
    assert "fifomark init" in doctor(run)["spool"][0]["message"]


def test_where_the_kernel_has_no_more_watches_doctor_says_what_to_raise(spool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from watchdog.observers import Observer

    from fifomark.daemon.doctor import examine

    def none_left(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "inotify watch limit reached")

    monkeypatch.setattr(Observer, "start", none_left)
    fault = next(seen for seen in examine(spool) if seen.about == "watching")
    assert (fault.level, "max_user_watches" in fault.advice) == ("fault", True)


def test_where_there_are_no_leases_doctor_says_what_decides(spool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fifomark.daemon.doctor import examine

    def no_leases(fd: int, command: int, *_: object) -> int:
        if command == fcntl.F_SETLEASE:
            raise OSError(errno.EINVAL, "Invalid argument")
        return 0

    monkeypatch.setattr(fcntl, "fcntl", no_leases)
    seen = next(seen for seen in examine(spool) if seen.about == "uploads")
    assert (seen.level, "settle_seconds" in seen.advice) == ("note", True)


@pytest.mark.usefixtures("serving")
def test_doctor_looks_at_a_spool_that_is_being_served(run: Run) -> None:
    found = doctor(run)
    assert found["daemon"][0]["message"].startswith("serve, process")
    assert found["daemon"][0]["level"] == "ok"


def test_service_prints_what_is_to_be_installed(run: Run, spool: Path) -> None:
    unit = run("service", "systemd", "--user", "nobody").stdout
    assert "\nUser=nobody\n" in unit
    assert f'"--spool" "{spool}"\n' in unit
    assert run("service", "cron", "--every", "10").stdout.splitlines()[-1].startswith("*/10 * * * * /")
    for wrong in (["cron", "--every", "0"], ["systemd", "--user", "nobody-of-this-name"]):
        done = run("service", *wrong)
        assert (done.returncode, done.stdout, "Traceback" in done.stderr) == (2, "", False)
