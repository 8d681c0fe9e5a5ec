"""`fifomark mark` and mark_model: one file, the whole way, without a spool."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import builders as b
import jsonschema
import numpy as np
import pytest
import torch
from torch import nn

import fifomark
from fifomark import mark_model
from fifomark.core.errors import ConfigError
from fifomark.core.states import State

FIFOMARK = str(Path(sys.executable).parent / "fifomark")
DIGITS = Path(fifomark.__file__).parent / "examples" / "digits"
SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "report.schema.json").read_text())


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([FIFOMARK, "mark", *map(str, arguments)], capture_output=True, text=True, timeout=240)


@pytest.fixture
def good(tmp_path: Path) -> Path:
    """A logistic regression that knows the digits: the mean picture of each."""
    with np.load(DIGITS / "data" / "digits.npz") as data:
        x, y = torch.tensor(data["x_train"]).float().reshape(-1, 64) / 16, torch.tensor(data["y_train"])
    means = torch.stack([x[y == digit].mean(0) for digit in range(10)])
    torch.save({"weight": 2 * means, "bias": -(means**2).sum(1)}, tmp_path / "ada__good.pt")  # the nearest mean
    return tmp_path / "ada__good.pt"


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    torch.save(nn.Linear(64, 10).state_dict(), tmp_path / "bad.pt")
    return tmp_path / "bad.pt"


def test_the_answer_is_the_exit_code_and_the_worst_one_counts(good: Path, bad: Path) -> None:
    passed = command(good, "--rubric", DIGITS)
    assert passed.returncode == 0
    assert "pass" in passed.stdout
    failed = command(good, bad, "--rubric", DIGITS / "rubric.toml")
    assert failed.returncode == 1
    assert failed.stdout.count("points, ") == 2


def test_a_slot_that_is_not_there_is_wrong_usage_and_others_are_named(good: Path) -> None:
    seen = command(good, "--rubric", DIGITS, "--slot", "cuda:7")
    assert seen.returncode == 2
    assert "--slot: 'cuda:7' cannot be used: its worker cannot be set up: this slot is a GPU, but torch sees none" in seen.stderr
    assert "(there are: 'cpu', 'cpu:" in seen.stderr
    assert "Traceback" not in seen.stderr


def test_what_the_rubrics_python_prints_is_no_part_of_the_result(good: Path, tmp_path: Path) -> None:
    rubric = Path(shutil.copytree(DIGITS, tmp_path / "rubric"))
    (rubric / "own.py").write_text(
        "import os\n\ndef one(outputs, labels):\n    print('printed')\n    os.write(1, b'written')\n    return 1\n"
    )
    with (rubric / "rubric.toml").open("a") as toml:
        toml.write('[[metric]]\nid = "one"\nkind = "own:one"\n')
    seen = command(good, "--rubric", rubric, "--json")
    assert json.loads(seen.stdout)["state"] == "done"
    assert "printed" in seen.stderr
    assert "written" in seen.stderr


def test_json_is_one_valid_report_a_line(good: Path, bad: Path) -> None:
    seen = command(good, bad, "--rubric", DIGITS, "--json")
    reports = [json.loads(line) for line in seen.stdout.splitlines()]
    for report in reports:
        jsonschema.validate(report, SCHEMA)
    assert [report["submission"]["name"] for report in reports] == ["ada__good.pt", "bad.pt"]
    assert [report["submission"]["owner"] for report in reports] == ["ada", "bad"]
    assert [report["grade"]["pass"] for report in reports] == [True, False]


def test_what_is_unsafe_is_refused_before_a_worker_starts(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    (tmp_path / "evil.pt").write_bytes(b.unsafe(marker))
    seen = command(tmp_path / "evil.pt", "--rubric", DIGITS)
    assert seen.returncode == 1
    assert "FM201" in seen.stdout
    assert not marker.exists()


@pytest.mark.parametrize(
    ("rubric", "slot", "said"),
    [("nowhere", "cpu", "is no rubric"), (DIGITS, "gpu", "is no slot"), (DIGITS, "cpu", "no such file")],
)
def test_wrong_usage_names_the_mistake(rubric: object, slot: str, said: str, good: Path) -> None:
    file = "missing.pt" if said == "no such file" else good
    seen = command(file, "--rubric", rubric, "--slot", slot)
    assert (seen.returncode, seen.stdout) == (2, "")
    assert said in seen.stderr


def test_a_rubric_that_is_wrong_in_its_metrics_is_the_operators(good: Path, tmp_path: Path) -> None:
    shutil.copytree(DIGITS, tmp_path / "rubric")
    text = (tmp_path / "rubric" / "rubric.toml").read_text().replace('average = "micro"', 'averag = "micro"')
    (tmp_path / "rubric" / "rubric.toml").write_text(text)
    seen = command(good, "--rubric", tmp_path / "rubric")
    assert seen.returncode == 2
    assert "metric.accuracy.args" in seen.stderr


def test_the_library_gives_the_report_and_leaves_nothing_behind(good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    report = mark_model(good, DIGITS, slot="cpu:1")
    assert report.state is State.DONE
    assert report.grade is not None
    assert report.grade.passed
    assert report.environment.slot == "cpu:1"
    assert os.listdir(tmp_path / "temporary") == []


def test_the_library_raises_for_a_rubric_or_file_that_is_not_there(good: Path) -> None:
    with pytest.raises(ConfigError, match="is no rubric"):
        mark_model(good, "nowhere")
    with pytest.raises(FileNotFoundError):
        mark_model("missing.pt", DIGITS)
