"""Marks are those of a plain torch script, whatever way the weights came in."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score

FIFOMARK = str(Path(sys.executable).parent / "fifomark")
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")


class CNN(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2, self.fc = nn.Conv2d(1, 16, 3, padding=1), nn.Conv2d(16, 32, 3, padding=1), nn.Linear(128, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.max_pool2d(self.conv1(x.unsqueeze(1)).relu(), 2)
        logits: Tensor = self.fc(nn.functional.max_pool2d(self.conv2(x).relu(), 2).flatten(1))
        return logits


class GRU(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru, self.fc = nn.GRU(8, 48, batch_first=True), nn.Linear(48, 10)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.gru(x)[0][:, -1])
        return logits


class Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.pos, self.fc = nn.Linear(8, 32), nn.Parameter(torch.zeros(1, 8, 32)), nn.Linear(32, 10)
        layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.encoder(self.embed(x) + self.pos).mean(1))
        return logits


PLAIN = {
    "ada__logistic": lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 10)),
    "blaise__mlp": lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)),
    "charles__cnn": CNN,
    "dorothy__gru": GRU,
    "emmy__transformer": Transformer,
    "frances__cnn_script": CNN,
}


def mixture() -> list[nn.Module]:
    """A convolution and a recurrent cell: of no one family, so that only its own layers tell how it computes."""
    torch.manual_seed(1)
    norm = nn.BatchNorm2d(8, eps=0.01)
    norm.running_mean = torch.randn(8)
    pooled = [nn.Conv2d(1, 8, 5, padding=1), norm, nn.Softsign(), nn.AdaptiveAvgPool2d(2), nn.Flatten()]
    return [*pooled, nn.GRUCell(32, 2), nn.Linear(2, 10)]


def run(*arguments: object) -> None:
    subprocess.run([FIFOMARK, *map(str, arguments)], check=True, capture_output=True, timeout=250)


def reports(spool: Path) -> dict[str, dict[str, Any]]:
    return {path.stem.split("-", 1)[1]: json.loads(path.read_bytes()) for path in (spool / "done").glob("*.json")}


def metrics(report: dict[str, Any]) -> dict[str, float]:
    return {metric["id"]: metric["value"] for metric in report["evaluation"]["metrics"]}


@pytest.fixture(scope="module")
def spool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's files, and one network saved in every way."""
    folder = tmp_path_factory.mktemp("marks")
    spool = folder / "spool"
    run("init", spool)
    subprocess.run([sys.executable, "-m", "fifomark.demo.train", str(folder)], check=True, capture_output=True)
    for name in PLAIN:
        (folder / f"{name}.pt").rename(spool / "incoming" / f"{name}.pt")
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.3), nn.Linear(32, 10))
    into = spool / "incoming"
    shutil.copytree(spool / "rubrics/digits", spool / "rubrics/whole")
    rubric = spool / "rubrics/whole/rubric.toml"
    rubric.write_text(rubric.read_text().replace("[model]", "[model]\ntrees = true").replace('id      = "digits"', 'id      = "whole"'))
    (into / "whole").mkdir()
    torch.save(nn.Sequential(*mixture()), into / "whole" / "t__tree.pt")
    torch.save(model.state_dict(), into / "w__state.pt")
    torch.save(model, into / "w__module.pt")
    torch.save(model, into / "w__legacy.pt", _use_new_zipfile_serialization=False)
    torch.save({"model": model, "optimizer": torch.optim.Adam(model.parameters()).state_dict(), "epoch": 3}, into / "w__in-checkpoint.pt")
    torch.save({f"_orig_mod.module.{k}": v for k, v in model.state_dict().items()}, into / "w__prefixed.pt")
    torch.jit.script(model.eval()).save(str(into / "w__script.pt"))
    run("drain", "--spool", spool)
    return spool


@pytest.mark.parametrize("name", PLAIN)
def test_the_mark_of_every_demo_model_is_that_of_a_ten_line_script(spool: Path, name: str) -> None:
    arrays = np.load(spool / "rubrics/digits/data/digits.npz")
    x, y = torch.from_numpy(arrays["x_test"]).float() / 16, torch.from_numpy(arrays["y_test"])
    original = spool / "originals" / f"{reports(spool)[name]['id']:08d}-{name}.pt.original"
    loaded = torch.jit.load(original) if name.endswith("script") else torch.load(original, weights_only=False)
    weights = loaded.state_dict() if isinstance(loaded, nn.Module) else loaded.get("model_state_dict", loaded)
    model = PLAIN[name]()
    model.load_state_dict({key.removeprefix("module."): tensor for key, tensor in weights.items()})
    logits = model.eval()(x).detach()
    accuracy = MulticlassAccuracy(10, average="micro")(logits, y)
    macro_f1 = MulticlassF1Score(10, average="macro")(logits, y)
    mark = metrics(reports(spool)[name])
    assert f"{mark['accuracy']:.4f}" == f"{accuracy:.4f}"
    assert f"{mark['macro_f1']:.4f}" == f"{macro_f1:.4f}"
    assert mark["accuracy"] == (logits.argmax(1) == y).double().mean().item()


def test_the_mark_of_a_model_that_was_pickled_whole_is_that_of_the_model(spool: Path) -> None:
    """All the way: described by the parser, kept in the ledger, sent to a slot, built there from torch's own layers."""
    arrays = np.load(spool / "rubrics/digits/data/digits.npz")
    x, y = torch.from_numpy(arrays["x_test"]).float() / 16, torch.from_numpy(arrays["y_test"])
    report = reports(spool)["t__tree"]
    assert (report["evaluation"]["source"], report["model"]["family"]) == ("tree", "unknown")
    logits = nn.Sequential(*mixture()).eval()(x.unsqueeze(1))
    assert metrics(report)["accuracy"] == (logits.argmax(1) == y).double().mean().item()


def test_the_same_weights_get_the_same_mark_in_whatever_way_they_were_saved(spool: Path) -> None:
    found = {name: report for name, report in reports(spool).items() if name.startswith("w__")}
    assert len(found) == 6
    assert {report["form"] for report in found.values()} == {"state_dict", "module", "torchscript"}
    assert len({json.dumps(metrics(report)) for report in found.values()}) == 1
    assert len({json.dumps(report["grade"]) for report in found.values()}) == 1
    assert len({report["clean"]["sha256"] for report in found.values()}) == 1
