"""Trains the demo's models and saves each as people do: python -m fifomark.demo.train FOLDER

A child process of the command line, because it needs torch. Progress goes to stdout, one JSON object a line: {"step": "cnn", "done": 0.4}.
"""

from __future__ import annotations

import copy
import json
import os
import sys
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import fifomark

DATA = Path(fifomark.__file__).parent / "examples" / "digits" / "data" / "digits.npz"
SCALE = 0.0625  # as in the example rubric
BATCH = 64


class CNN(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.fc = nn.Linear(32 * 2 * 2, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.max_pool2d(torch.relu(self.conv1(x)), 2)
        x = torch.max_pool2d(torch.relu(self.conv2(x)), 2)
        logits: Tensor = self.fc(x.flatten(1))
        return logits


class GRU(nn.Module):
    """Reads a picture row by row."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(8, 48, batch_first=True)
        self.fc = nn.Linear(48, 10)

    def forward(self, x: Tensor) -> Tensor:
        steps, _ = self.gru(x.squeeze(1))
        logits: Tensor = self.fc(steps[:, -1])
        return logits


class Transformer(nn.Module):
    """Takes each row of a picture for a token."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(8, 32)
        self.pos = nn.Parameter(torch.randn(1, 8, 32) * 0.02)
        layer = nn.TransformerEncoderLayer(32, nhead=4, dim_feedforward=64, dropout=0.1, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, num_layers=2, enable_nested_tensor=False)
        self.fc = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.embed(x.squeeze(1)) + self.pos
        logits: Tensor = self.fc(self.encoder(tokens).mean(dim=1))
        return logits


def logistic() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))


def mlp() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))


def load_split(name: str) -> tuple[Tensor, Tensor]:
    """("train" or "test") → pictures (n, 1, 8, 8) float32 in 0..1, labels (n,)."""
    with np.load(DATA, allow_pickle=False) as arrays:
        x, y = arrays[f"x_{name}"], arrays[f"y_{name}"]
    return torch.from_numpy(x).float().unsqueeze(1) * SCALE, torch.from_numpy(y)


def train(make: Callable[[], nn.Module], epochs: int, lr: float, said: Callable[[float], None]) -> tuple[nn.Module, torch.optim.Optimizer]:
    """A trained model in eval mode and the optimizer that did it; `said` hears the share that is done."""
    torch.manual_seed(1)
    x, y = load_split("train")
    model = make()
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=epochs * len(torch.split(x, BATCH)))
    for epoch in range(epochs):
        for rows in torch.split(torch.randperm(len(x)), BATCH):
            optimizer.zero_grad()
            torch.autograd.backward(nn.functional.cross_entropy(model(x[rows]), y[rows]))
            optimizer.step()
            schedule.step()
        said((epoch + 1) / epochs)
    return model.eval(), optimizer


RECIPES: dict[str, tuple[Callable[[], nn.Module], int, float]] = {
    "logistic": (logistic, 40, 0.03),
    "mlp": (mlp, 40, 0.01),
    "cnn": (CNN, 15, 0.01),
    "gru": (GRU, 40, 0.01),
    "transformer": (Transformer, 40, 0.005),
}


def main(folder: str) -> None:
    """Train all and write the files of `fifomark.demo.TRAINED`, and those broken ones that torch has to write, into `folder`."""
    os.makedirs(folder, exist_ok=True)
    torch.use_deterministic_algorithms(True)
    # Models so small gain nothing from a second thread, which makes each step wait for a core that others may be using.
    torch.set_num_threads(1)
    trained = {step: train(*recipe, said=partial(_say, step)) for step, recipe in RECIPES.items()}
    save({step: model for step, (model, _) in trained.items()}, trained["cnn"][1], folder)


def save(models: dict[str, nn.Module], cnn_optimizer: torch.optim.Optimizer, folder: str) -> None:
    """Each model the way that somebody would save it."""

    def at(name: str) -> str:
        return os.path.join(folder, name)

    cnn = models["cnn"].state_dict()
    checkpoint = {"epoch": RECIPES["cnn"][1], "model_state_dict": cnn, "optimizer_state_dict": cnn_optimizer.state_dict()}
    torch.save(models["logistic"].state_dict(), at("ada__logistic.pt"))
    torch.save(models["mlp"], at("blaise__mlp.pt"))
    torch.save(checkpoint, at("charles__cnn.pt"))
    torch.save(nn.DataParallel(models["gru"]).state_dict(), at("dorothy__gru.pt"))
    torch.save(models["transformer"].state_dict(), at("emmy__transformer.pt"), _use_new_zipfile_serialization=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch.jit is on its way out; the files that it made are not
        torch.jit.save(torch.jit.script(models["cnn"]), at("frances__cnn_script.pt"))
    torch.save(_diverged(models["mlp"]).state_dict(), at("grace__diverged.pt"))
    torch.save(nn.Sequential(nn.Flatten(), nn.Linear(28 * 28, 32), nn.ReLU(), nn.Linear(32, 10)).state_dict(), at("henri__other_task.pt"))


def _diverged(model: nn.Module) -> nn.Module:
    broken = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in broken.parameters():
            parameter.fill_(float("nan"))
    return broken


def _say(step: str, done: float) -> None:
    print(json.dumps({"step": step, "done": round(done, 3)}), flush=True)  # noqa: T201  # the lines are this program's result


if __name__ == "__main__":
    main(sys.argv[1])
