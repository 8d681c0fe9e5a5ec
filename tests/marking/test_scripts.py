"""TorchScript that the rubric lets run: its marks are those of any other model."""

from __future__ import annotations

import io
import os
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from submitting import evaluated, failed, pid_of, ran, refused
from torch import Tensor, nn
from torchmetrics.classification import MulticlassAUROC
from torchscripts import GivesTwo, KeepsItsState, NeverEnds, TakesAll, WantsFive, scripted

from fifomark.core.errors import ConfigError
from fifomark.core.outcome import Failed
from fifomark.marking import script_template, scripts
from fifomark.marking.data import load_data
from fifomark.marking.evaluation import Bench
from fifomark.marking.rubric import load_rubric
from fifomark.sandbox.enter import InForce, available
from fifomark.settings import load_settings

RubricWriter = Callable[..., Path]
ALLOWED = {'families = ["logistic", "mlp"]': "torchscript = true"}
COSTS = """
[[criterion]]
id = "auroc"
title = "AUROC"
points = 1
metric = "auroc"
scoring = { kind = "linear", from = 0.0, to = 1.0 }
[[metric]]
id = "auroc"
kind = "MulticlassAUROC"
[[metric]]
id = "parameters"
kind = "parameters"
[[metric]]
id = "bytes"
kind = "bytes"
[[metric]]
id = "macs"
kind = "macs"
[[metric]]
id = "peak"
kind = "peak_memory_mib"
[[metric]]
id = "latency"
kind = "latency_ms"
"""

pytestmark = pytest.mark.skipif(not all(available()), reason=f"this kernel offers {available()}")


class Odd(nn.Module):
    """What no family builds: a gate and a loop."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.value, self.out = nn.Linear(4, 6), nn.Linear(4, 6), nn.Linear(6, 3)
        self.norm = nn.BatchNorm1d(6)

    def forward(self, x: Tensor) -> Tensor:
        h = self.value(x)
        for _ in range(2):
            h = self.norm(h * torch.sigmoid(self.gate(x)))
        return self.out(h)


class Halves(nn.Module):
    """Half precision within, as many a network that was written for GPUs has it."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.out = nn.Linear(4, 6).half(), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.fc(x.half()).float())


class Drops(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.nn.functional.dropout(x, 0.5, training=True))


@pytest.fixture
def rubric(write_rubric: RubricWriter) -> Path:
    return write_rubric(changes=ALLOWED)


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    torch.manual_seed(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls torch.jit old
        yield


def running() -> list[str]:
    """The processes of scripts that are there."""
    return [pid for one in script_template._templates.values() for pid in children(one._process.pid)]


def children(pid: int) -> list[str]:
    return [child for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()]


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Another program for the template, which is started anew with it."""

    def set_program(text: str) -> None:
        script_template.forget()
        monkeypatch.setattr(script_template, "_PROGRAM", text)

    yield set_program
    script_template.forget()


def test_a_script_gets_what_a_plain_program_gives_it_to_the_last_digit(write_rubric: RubricWriter) -> None:
    rubric = write_rubric(COSTS, changes=ALLOWED)
    model, body = Odd(), scripted(Odd())
    mark = evaluated(ran(body, rubric))
    split = load_data(str(rubric), load_rubric(rubric)).splits[0]
    with torch.inference_mode():
        outputs = torch.jit.load(io.BytesIO(body)).eval()(torch.from_numpy(split.inputs[0]))
    auroc = MulticlassAUROC(num_classes=3)(outputs.softmax(-1), torch.from_numpy(split.labels))
    found = {metric.id: metric.value for metric in mark.metrics}
    assert found["auroc"] == float(str(auroc.numpy()))
    assert found["parameters"] == sum(p.numel() for p in model.parameters())
    assert found["bytes"] == sum(t.nbytes for t in (*model.parameters(), *model.buffers()))
    assert found["macs"] == 4 * 6 + 6 * 3 + 2 * 4 * 6  # the gate runs twice
    assert found["peak"] > 0
    assert found["latency"] > 0
    assert (mark.source, mark.sandbox, mark.device) == ("torchscript", available().words, "cpu")
    assert [(audit.id, audit.passed) for audit in mark.audits] == [("repeat", True), ("batch_size", True), ("order", True)]


def test_a_script_may_use_half_precision(rubric: Path) -> None:
    assert evaluated(ran(scripted(Halves()), rubric)).metrics


def test_the_same_weights_get_the_same_numbers_as_script_and_by_their_family(write_rubric: RubricWriter) -> None:
    model = nn.Sequential(nn.Linear(4, 3))
    allowed = write_rubric(COSTS.partition('[[metric]]\nid = "latency"')[0], changes=ALLOWED)
    by_code = evaluated(ran(scripted(model), allowed))
    allowed.joinpath("rubric.toml").write_text(
        allowed.joinpath("rubric.toml").read_text().replace("torchscript = true", 'families = ["logistic"]')
    )
    by_family = evaluated(ran(scripted(model), allowed))
    assert (by_code.source, by_family.source, by_family.sandbox) == ("torchscript", "family logistic", None)
    assert by_code.metrics == by_family.metrics


def test_other_forms_go_on_as_they_did(write_rubric: RubricWriter) -> None:
    rubric = write_rubric(changes={"families": "torchscript = true\nfamilies"})
    assert evaluated(ran(scripted(nn.Linear(4, 3)), rubric)).source == "torchscript"
    both = write_rubric(
        changes={'families = ["logistic", "mlp"]': 'torchscript = true\nfamilies = ["cnn"]\n[model.cnn]\nlayers = [{ relu = {} }]'}
    )
    assert [code for code, _ in refused(ran(scripted(nn.Linear(4, 3)), both))] == ["FM503"]


def test_a_state_that_is_only_set_is_no_reason_to_refuse(rubric: Path) -> None:
    mark = evaluated(ran(scripted(KeepsItsState()), rubric))
    assert mark.source == "torchscript"


def test_constants_in_the_code_count_as_parameters(write_rubric: RubricWriter) -> None:
    rubric = write_rubric(changes={**ALLOWED, "[input]": "max_parameters = 20\n[input]"})
    table = torch.arange(12.0).reshape(4, 3)
    out = io.BytesIO()
    linear = nn.Linear(4, 3)
    torch.jit.save(torch.jit.trace(_Hiding(linear, table), torch.zeros(2, 4)), out)
    ((code, message),) = refused(ran(out.getvalue(), rubric))
    assert (code, message) == ("FM506", "27 parameters, where at most 20 are allowed")


class _Hiding(nn.Module):
    def __init__(self, linear: nn.Module, table: Tensor) -> None:
        super().__init__()
        self.linear = linear
        self._table = [table]  # no parameter, no buffer: tracing makes it a constant of the code

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) + x @ self._table[0]


def test_audits_say_of_a_script_what_they_say_of_others(rubric: Path) -> None:
    mark = evaluated(ran(scripted(Drops()), rubric))
    assert ("repeat", False) in [(audit.id, audit.passed) for audit in mark.audits]
    assert "FM607" in [finding.code for finding in mark.findings]


@pytest.mark.parametrize(
    ("model", "code", "said"),
    [
        (WantsFive(), "FM603", "mat1 and mat2 shapes cannot be multiplied (8x4 and 5x3)"),
        (GivesTwo(), "FM604", "the model returned tuple, expected a tensor"),
        (TakesAll(), "FM602", "the model does not fit into memory"),
    ],
    ids=["raises", "gives a tuple", "takes too much memory"],
)
def test_what_a_script_does_wrong_is_a_finding(rubric: Path, model: nn.Module, code: str, said: str) -> None:
    ((found, message),) = refused(ran(scripted(model), rubric))
    assert found == code
    assert said in message
    assert not running()


def test_a_script_that_never_ends_is_stopped_and_the_next_one_is_marked(rubric: Path) -> None:
    bench = Bench()
    started = time.monotonic()
    outcome = ran(scripted(NeverEnds()), rubric, bench, seconds=12.0)
    assert isinstance(outcome, Failed)
    assert (outcome.reason.code, outcome.reason.blame) == ("limit-exceeded", "submitter")
    assert outcome.reason.message == "it took longer than the 12 seconds that it may"
    assert [(finding.code, finding.message) for finding in outcome.findings] == [("FM601", outcome.reason.message)]
    assert time.monotonic() - started < 100
    assert not running()
    assert evaluated(ran(scripted(Odd()), rubric, bench)).source == "torchscript"


def test_a_process_runs_one_script_and_is_gone(rubric: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pids: list[str] = []
    made = scripts._Process.__init__

    def noted(self: scripts._Process, *args: object) -> None:
        made(self, *args)  # type: ignore[arg-type]
        pids.append(pid_of(self))

    monkeypatch.setattr(scripts._Process, "__init__", noted)
    bench = Bench()
    for _ in range(2):
        evaluated(ran(scripted(Odd()), rubric, bench))
    assert len(set(pids)) == 2
    assert not [pid for pid in pids if os.path.exists(f"/proc/{pid}")]


def test_a_file_that_is_not_the_one_that_was_inspected_is_not_run(rubric: Path) -> None:
    code, message = failed(ran(scripted(Odd()), rubric, sha256="0" * 64))
    assert code == "internal-error"
    assert "is not the file any more that was inspected" in message
    assert not running()


def test_a_link_in_the_place_of_the_file_is_not_followed(rubric: Path) -> None:
    (rubric / "link.pt").symlink_to(rubric / "script.pt")
    _, message = failed(ran(scripted(Odd()), rubric, path=str(rubric / "link.pt")))
    assert "cannot be read any more" in message


# Where it cannot be locked in


def test_without_a_sandbox_no_script_is_run(rubric: Path) -> None:
    code, message = failed(ran(scripted(Odd()), rubric, sandbox="off"))
    assert code == "rubric-error"
    assert 'model.torchscript: a script cannot be run here: sandbox = "off"' in message


def test_a_machine_without_landlock_runs_none_where_the_sandbox_is_required(rubric: Path, program: Callable[[str], None]) -> None:
    lacking = "from fifomark.sandbox import landlock; landlock.version = lambda: 0; "
    program(script_template._PROGRAM.replace("from fifomark", lacking + "from fifomark", 1))
    code, message = failed(ran(scripted(Odd()), rubric, sandbox="required"))
    assert code == "rubric-error"
    assert 'sandbox = "required", but this machine offers' in message
    assert evaluated(ran(scripted(Odd()), rubric)).sandbox == "seccomp"  # which refuses every path by itself


def test_a_machine_without_seccomp_refuses_the_rubric(rubric: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fifomark.marking.model_rules.available", lambda: InForce(7, False))
    with pytest.raises(ConfigError, match="it has no seccomp"):
        load_rubric(rubric)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ('[submission]\naccept = ["state_dict"]', "submission.accept leaves out"),
        ('[run]\ndevice = "cuda"', "exclude each other"),
    ],
)
def test_a_rubric_that_contradicts_itself_is_told(write_rubric: RubricWriter, more: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load_rubric(write_rubric(more, changes=ALLOWED))


def test_it_is_the_rubric_that_says_so_and_not_the_settings_of_a_spool(tmp_path: Path) -> None:
    (tmp_path / "fifomark.toml").write_text('schema = "fifomark.settings/1"\n[policy]\ntorchscript = true\n')
    with pytest.raises(ConfigError, match=r"write torchscript = true under \[model\] of the rubric"):
        load_settings(tmp_path)


# A process that somebody took over


FAKE = """
import sys; sys.path[:] = {{path!r}}
import json, os, time
from multiprocessing.connection import Connection
from fifomark.marking import script_server
def main(line_fd, archive_fd):
    line = Connection(line_fd)
    say = lambda what: line.send_bytes(json.dumps(what).encode())
    try:
        line.recv_bytes()
        {body}
    finally:
        os._exit(0)
script_server.main = main
script_server.serve({{control}})
"""
READY = "say(dict(type='ready', landlock=7, seccomp=True))"
GAVE = "say(dict(type='loaded', constants=0)); line.recv_bytes(); say(dict(type='gave', head=dict(dtype='float32', shape=[8, 3])))"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("pass", "ended before it could begin (exit code 0)"),
        (f"{READY}; os._exit(3)", "ended (exit code 3)"),
        (f"{READY}; import ctypes; ctypes.string_at(0)", "died of SIGSEGV"),
        (f"{READY}; os.kill(os.getpid(), 9)", "as the system does where memory ends"),
        (f"{READY}; {GAVE}; time.sleep(60)", "it took longer than the 3 seconds"),
        (f"{READY}; line.send_bytes(b'x' * 70000); time.sleep(9)", "said nonsense"),
        (f"{READY}; line.send_bytes(b'nonsense'); time.sleep(9)", "said nonsense"),
        (f"{READY}; say(dict(type='counted', number=1)); time.sleep(9)", "said Counted"),
        (f"{READY}; {GAVE}; line.send_bytes(b'1234'); time.sleep(9)", "said nonsense"),
    ],
)
def test_what_comes_from_the_process_is_believed_only_as_far_as_it_makes_sense(
    rubric: Path, body: str, said: str, program: Callable[[str], None]
) -> None:
    program(FAKE.format(body=body))
    outcome = ran(scripted(Odd()), rubric, seconds=3.0 if "longer" in said else 100.0)
    assert said in (outcome.reason.message if isinstance(outcome, Failed) else refused(outcome)[0][1])
    assert not running()


def test_a_template_that_cannot_be_started_says_why(rubric: Path, program: Callable[[str], None]) -> None:
    program("raise SystemExit('no torch here')")
    assert "cannot be started: no torch here" in failed(ran(scripted(Odd()), rubric))[1]


def test_a_template_that_was_killed_is_replaced(rubric: Path) -> None:
    script_template.forget()
    evaluated(ran(scripted(Odd()), rubric))
    (first,) = script_template._templates.values()
    first._process.kill()
    first._process.wait()
    evaluated(ran(scripted(Odd()), rubric))
    (second,) = script_template._templates.values()
    assert second is not first
