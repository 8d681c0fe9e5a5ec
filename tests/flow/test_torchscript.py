"""TorchScript all the way: dropped into a spool, run where it is locked in, marked; and one that tries to get out beside it."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchscripts import SavesWhenLoaded, scripted

from fifomark.sandbox.enter import available

FIFOMARK = str(Path(sys.executable).parent / "fifomark")
pytestmark = [
    pytest.mark.skipif(not all(available()), reason=f"this kernel offers {available()}"),
    pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning"),
]


class Odd(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.cell, self.fc = nn.Conv2d(1, 8, 3, padding=1), nn.GRUCell(64, 32), nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        rows = self.conv(x).relu().permute(2, 0, 1, 3).flatten(2)
        state = torch.zeros(x.size(0), 32)
        for row in rows:
            state = self.cell(row, state)
        return self.fc(state)


def allow(rubric: Path) -> Path:
    text = rubric.read_text()
    start, end = text.index("[model]"), text.index("[input]")
    rubric.write_text(text[:start] + "[model]\ntorchscript = true\n\n" + text[end:])
    return rubric.parent


@pytest.fixture(scope="module")
def body() -> bytes:
    torch.manual_seed(3)
    return scripted(Odd())


@pytest.fixture(scope="module")
def spool(tmp_path_factory: pytest.TempPathFactory, body: bytes) -> Path:
    root = tmp_path_factory.mktemp("torchscript") / "spool"
    subprocess.run([FIFOMARK, "init", str(root)], check=True, capture_output=True)
    settings = root / "fifomark.toml"
    settings.write_text(settings.read_text().replace('slots = "auto"', 'slots = ["cpu"]'))
    allow(root / "rubrics/digits/rubric.toml")
    (root / "incoming/eve.pt").write_bytes(scripted(SavesWhenLoaded(str(root.parent / "RAN"))))
    (root / "incoming/odd.pt").write_bytes(body)
    torch.save(Odd().state_dict(), root / "incoming/weights.pt")
    subprocess.run([FIFOMARK, "drain", "--spool", str(root)], check=True, capture_output=True, timeout=250)
    return root


def report(spool: Path, state: str, name: str) -> dict[str, Any]:
    (path,) = (spool / state).glob(f"*-{name}.json")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def expected(body: bytes, folder: Path) -> float:
    arrays = np.load(folder / "data/digits.npz")
    x, y = torch.from_numpy(arrays["x_test"]).float() / 16, torch.from_numpy(arrays["y_test"])
    with torch.inference_mode():
        logits = torch.jit.load(io.BytesIO(body)).eval()(x.unsqueeze(1))
    return float((logits.argmax(1) == y).double().mean())


def test_a_script_is_marked_as_a_plain_program_would(spool: Path, body: bytes) -> None:
    done = report(spool, "done", "odd")
    mark = {metric["id"]: metric["value"] for metric in done["evaluation"]["metrics"]}
    assert mark["accuracy"] == expected(body, spool / "rubrics/digits")
    assert (done["evaluation"]["source"], done["verdict"]) == ("torchscript", "flagged")
    assert done["evaluation"]["sandbox"] == available().words
    said = subprocess.run([FIFOMARK, "report", "odd.pt", "--spool", str(spool)], capture_output=True, text=True, check=True).stdout
    assert f"its own TorchScript was run, locked in by {available().words}" in said


def test_one_that_writes_when_it_is_loaded_is_refused_and_nothing_is_written(spool: Path) -> None:
    refused = report(spool, "rejected", "eve")
    assert "FM610" in [finding["code"] for finding in refused["findings"]]
    assert refused["verdict"] == "unsafe"
    assert not (spool.parent / "RAN").exists()
    student = subprocess.run([FIFOMARK, "report", "eve.pt", "--student", "--spool", str(spool)], capture_output=True, text=True, check=True)
    assert "TorchScript that reaches for what is not its own" in student.stdout


def test_weights_that_no_code_came_with_are_told_so(spool: Path) -> None:
    refused = report(spool, "rejected", "weights")
    assert [finding["code"] for finding in refused["findings"]] == ["FM504"]
    assert "the task takes TorchScript" in refused["findings"][0]["message"]


def test_one_file_is_marked_without_a_spool_the_same(spool: Path, body: bytes, tmp_path: Path) -> None:
    (tmp_path / "mine.pt").write_bytes(body)
    rubric = spool / "rubrics/digits"
    seen = subprocess.run([FIFOMARK, "mark", str(tmp_path / "mine.pt"), "--rubric", str(rubric), "--json"], capture_output=True, text=True)
    (accuracy, *_) = json.loads(seen.stdout)["evaluation"]["metrics"]
    assert accuracy["value"] == expected(body, rubric)
