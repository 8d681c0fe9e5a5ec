"""Trains this example's reference and three submissions of different quality: python train.py"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from models import Net
from torch import Tensor, nn

HERE = Path(__file__).parent


def trained(epochs: int, x: Tensor, y: Tensor, *, decay: float = 0.1) -> nn.Module:
    torch.manual_seed(0)
    model = Net(16)
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3, weight_decay=decay)
    for _ in range(epochs):
        for rows in torch.randperm(len(y)).split(32):
            if len(rows) < 2:
                continue  # batch normalisation needs two
            optimizer.zero_grad()
            (nn.functional.mse_loss(model(x[rows]), y[rows]) / 75**2).backward()
            optimizer.step()
    return model


def main() -> None:
    torch.set_num_threads(1)
    table = torch.from_numpy(np.loadtxt(HERE / "data" / "train.csv", delimiter=",", skiprows=1, dtype=np.float32))
    x, y = table[:, :10], table[:, 10:]
    torch.save(trained(40, x, y).state_dict(), HERE / "reference.pt")
    submissions = HERE / "submissions"
    submissions.mkdir(exist_ok=True)
    torch.save(trained(30, x, y).state_dict(), submissions / "ada__patient.pt")
    torch.save(trained(3, x, y).state_dict(), submissions / "grace__hasty.pt")
    torch.save(trained(300, x[:20], y[:20], decay=0.0).state_dict(), submissions / "zeno__by_heart.pt")


if __name__ == "__main__":
    main()
