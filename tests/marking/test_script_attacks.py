"""Published ways to misuse TorchScript, each with a harmless payload, against a rubric that lets scripts run."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import builders as b
import numpy as np
import pytest
import torch
from submitting import evaluated, pid_of, ran, refused, sanitizer
from torch import nn
from torchscripts import MapsWhenRun, ReadsWhenRun, SavesWhenLoaded, SavesWhenRun, run_unguarded, scripted

from fifomark.core.findings import Level, Verdict
from fifomark.core.policy import Policy
from fifomark.marking import script_template, scripts
from fifomark.marking.evaluation import Bench
from fifomark.sandbox.enter import available

RubricWriter = Callable[..., Path]

pytestmark = pytest.mark.skipif(not all(available()), reason=f"this kernel offers {available()}")


@pytest.fixture
def rubric(write_rubric: RubricWriter) -> Path:
    return write_rubric(changes={'families = ["logistic", "mlp"]': "torchscript = true"})


@pytest.mark.parametrize("attack", [SavesWhenLoaded, SavesWhenRun, MapsWhenRun])
def test_a_script_that_writes_a_file_is_stopped_and_the_next_one_is_unharmed(
    attack: Callable[[str], nn.Module], rubric: Path, tmp_path: Path
) -> None:
    marker, bench = tmp_path / "RAN", Bench()
    body = scripted(attack(str(marker)))
    ((code, message),) = refused(ran(body, rubric, bench))
    assert code == "FM610"
    assert "tried to write to a file" in message
    assert not marker.exists()
    assert evaluated(ran(scripted(nn.Linear(4, 3)), rubric, bench)).source == "torchscript"
    run_unguarded(body, torch.zeros(2, 4))  # the control
    assert marker.exists()


def test_a_script_cannot_read_the_labels(rubric: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels.bin"
    np.arange(30, dtype=np.float32).tofile(labels)
    body = scripted(ReadsWhenRun(str(labels)))
    ((code, _),) = refused(ran(body, rubric))
    assert code == "FM610"
    assert run_unguarded(body, torch.zeros(1, 4)).shape == (1, 3)  # the control


def test_a_pickle_that_calls_something_is_unsafe_where_scripts_run_too(tmp_path: Path) -> None:
    body = b.archive(b.pickled(b.touch(tmp_path / "RAN")), {}, extra={"archive/constants.pkl": b.pickled(b.tuple_of())})
    (tmp_path / "a.pt").write_bytes(body)
    seen = sanitizer().inspect(tmp_path / "a.pt", policy=Policy(torchscript=True))
    assert (seen.container, seen.verdict) == ("torchscript", Verdict.UNSAFE)
    assert ("FM201", Level.UNSAFE) in [(finding.code, finding.level) for finding in seen.findings]


def test_what_runs_at_loading_is_unsafe_where_no_rubric_lets_it_run(tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(scripted(SavesWhenLoaded(str(tmp_path / "RAN"))))
    allowed, not_allowed = (sanitizer().inspect(tmp_path / "a.pt", policy=Policy(torchscript=allowed)) for allowed in (True, False))
    assert (allowed.verdict, not_allowed.verdict) == (Verdict.FLAGGED, Verdict.UNSAFE)


def test_the_process_holds_nothing_but_its_line_and_the_archive(rubric: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the environment, nor a file of ours: what it cannot name it cannot tell."""
    monkeypatch.setenv("SECRET_TOKEN", "s3cret")
    seen: dict[str, list[str]] = {}
    load = scripts._Process.load

    def looked_at(self: scripts._Process) -> None:
        load(self)
        here = f"/proc/{pid_of(self)}"
        seen["files"] = sorted(os.readlink(f"{here}/fd/{fd}").split(":")[0] for fd in os.listdir(f"{here}/fd"))
        seen["environment"] = Path(f"{here}/environ").read_text().split("\0")
        seen["status"] = Path(f"{here}/status").read_text().splitlines()

    monkeypatch.setattr(scripts._Process, "load", looked_at)
    script_template.forget()
    evaluated(ran(scripted(nn.Linear(4, 3)), rubric))
    assert set(seen["files"]) == {"/dev/null", "socket"}  # the archive was read, and is closed
    assert not [line for line in seen["environment"] if "SECRET" in line or "PATH=" in line]
    assert {"NoNewPrivs:\t1", "Seccomp:\t2"} <= set(seen["status"])
