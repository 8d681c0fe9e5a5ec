"""The examples in docs/ are marked as their READMEs say, and as a plain torch script over the same files would."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchmetrics.classification import MulticlassAccuracy, MulticlassCalibrationError, MulticlassF1Score
from torchmetrics.regression import MeanAbsoluteError, R2Score

import fifomark
from fifomark.core.report import Report
from fifomark.daemon.single import Marker
from fifomark.marking.data import load_data
from fifomark.marking.rubric import load_rubric

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
RUBRICS = {"digits": Path(fifomark.__file__).parent / "examples" / "digits"}  # that of every new spool; the others have their own
NAMES = ("digits", "mnist", "motions", "docstrings", "diabetes")
_ROW = re.compile(r"\| `(?P<file>[^`]+)` \|(?P<cells>[^\n]*)\|\n")


@pytest.fixture(scope="module")
def reports() -> dict[str, dict[str, Report]]:
    """Every file of every example, marked: by the example, and by its path there."""
    marked: dict[str, dict[str, Report]] = {}
    for name in NAMES:
        folder = EXAMPLES / name
        files = [*folder.glob("reference.pt"), *sorted((folder / "submissions").glob("*.pt"))]
        with Marker(RUBRICS.get(name, folder), slot="cpu:1") as marker:
            marked[name] = {file.relative_to(folder).as_posix(): marker.mark(file) for file in files}
    return marked


def table(reports: dict[str, Report]) -> str:
    """The table that a README shows."""
    metrics = next(report.evaluation.metrics for report in reports.values() if report.evaluation)
    shown = [(m.id, m.split) for m in metrics if m.split != "public"]
    lines = ["| file | verdict | " + " | ".join(id for id, _ in shown) + " | points |", "|" + "---|" * (len(shown) + 3)]
    for file, report in reports.items():
        assert report.evaluation is not None
        assert report.grade is not None
        values = {(m.id, m.split): m.value for m in report.evaluation.metrics}
        numbers = " | ".join(f"{values[key]:,.4g}" if key[0] != "parameters" else f"{values[key]:,.0f}" for key in shown)
        lines.append(f"| `{file}` | {report.verdict} | {numbers} | {report.grade.points:g} of {report.grade.points_possible:g} |")
    return "\n".join(lines)


@pytest.mark.parametrize("name", NAMES)
def test_the_readme_shows_the_marks_that_are_given(name: str, reports: dict[str, dict[str, Report]]) -> None:
    assert table(reports[name]) in (EXAMPLES / name / "README.md").read_text()


@pytest.mark.parametrize("name", NAMES[1:])
def test_good_work_is_worth_more_than_poor_work(name: str, reports: dict[str, dict[str, Report]]) -> None:
    points = {file: report.grade.points for file, report in reports[name].items() if report.grade}
    ada, grace, zeno = (next(p for file, p in points.items() if owner in file) for owner in ("ada", "grace", "zeno"))
    assert ada > grace > zeno


def module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{path.parent.name}", path)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def plain_model(name: str, weights: dict[str, Tensor]) -> nn.Module:
    """As the example's own training script builds it."""
    if name == "mnist":
        return module(EXAMPLES / name / "train.py").network(len(weights["0.weight"]), len(weights["4.weight"]))
    if name == "motions":
        return module(EXAMPLES / name / "train.py").Net(weights["gru.weight_hh_l0"].shape[1])
    if name == "docstrings":
        layers = {key.split(".")[2] for key in weights if key.startswith("encoder.layers.")}
        return module(EXAMPLES / name / "train.py").Net(weights["embed.weight"].shape[1], len(layers))
    return module(EXAMPLES / name / "models.py").Net(16)


METRICS: dict[str, dict[str, Any]] = {
    "mnist": {"accuracy": MulticlassAccuracy(10, average="micro"), "ece": MulticlassCalibrationError(10)},
    "motions": {"accuracy": MulticlassAccuracy(4, average="micro")},
    "docstrings": {"accuracy": MulticlassAccuracy(5, average="micro"), "macro_f1": MulticlassF1Score(5, average="macro")},
    "diabetes": {"r2": R2Score(), "mae": MeanAbsoluteError()},
}


@pytest.mark.parametrize("name", NAMES[1:])  # tests/flow/test_same_marks.py does this for the digits
def test_marks_are_those_of_a_plain_script_to_the_last_digit(name: str, reports: dict[str, dict[str, Report]]) -> None:
    rubric = load_rubric(EXAMPLES / name)
    splits = load_data(EXAMPLES / name, rubric).splits
    torch.set_num_threads(1)  # as many as the slot has: they share out the sums, and the last digits with them
    for file, report in reports[name].items():
        saved = torch.load(EXAMPLES / name / file, weights_only=True)
        weights = {
            key.removeprefix("module."): value.float() if value.is_floating_point() else value
            for key, value in saved.get("model", saved).items()
        }
        model = plain_model(name, weights)
        model.load_state_dict(weights)
        model.eval()
        assert report.evaluation is not None
        given = {(metric.id, metric.split): metric.value for metric in report.evaluation.metrics}
        for split in splits:
            x, y = torch.from_numpy(split.inputs[0]), torch.from_numpy(split.labels)
            for id, metric in METRICS[name].items():
                metric.reset()
                with torch.inference_mode():
                    outputs = torch.cat([model(some) for some in x.split(rubric.run.batch_size)])
                said = outputs.squeeze(1) if name == "diabetes" else outputs.softmax(1)
                value = np.float32(float(metric(said, y.reshape(-1))))
                assert np.float32(given[id, split.name]) == value, (file, id, split.name)


def test_every_readme_names_every_file_of_its_example() -> None:
    for name in NAMES:
        text = (EXAMPLES / name / "README.md").read_text()
        there = {path.relative_to(EXAMPLES / name).as_posix() for path in (EXAMPLES / name).rglob("*.pt")}
        assert {row["file"] for row in _ROW.finditer(text)} == there
