"""Trains this example's reference and three submissions of different quality: python train.py"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

HERE = Path(__file__).parent


def data() -> tuple[Tensor, Tensor]:
    with np.load(HERE / "data" / "mnist.npz") as arrays:
        x = torch.from_numpy(arrays["x_train"]).float().unsqueeze(1) / 255
        return (x - 0.1307) / 0.3081, torch.from_numpy(arrays["y_train"])


def network(one: int, two: int) -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(1, one, 3, padding=1), nn.BatchNorm2d(one), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(one, two, 3, padding=1), nn.BatchNorm2d(two), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(two * 49, 10)),
    )


def trained(widths: tuple[int, int], epochs: int, x: Tensor, y: Tensor) -> dict[str, Tensor]:
    torch.manual_seed(0)
    model = network(*widths)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(epochs):
        for rows in torch.randperm(len(y)).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
            optimizer.step()
    return model.state_dict()


def main() -> None:
    torch.set_num_threads(1)
    x, y = data()
    torch.save(trained((16, 32), 5, x, y), HERE / "reference.pt")
    submissions = HERE / "submissions"
    submissions.mkdir(exist_ok=True)
    torch.save(trained((12, 24), 4, x, y), submissions / "ada__wide.pt")
    torch.save({"epoch": 2, "model": trained((4, 8), 2, x[:1500], y[:1500])}, submissions / "grace__early.pt")  # a checkpoint
    torch.save(trained((8, 8), 1, x[:100], y[:100]), submissions / "zeno__hundred.pt")


if __name__ == "__main__":
    main()
