"""Trains this example's reference and three submissions of different quality: python train.py"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

HERE = Path(__file__).parent


class Net(nn.Module):
    """A GRU that reads 100 measurements of 6 numbers, and a linear layer on its last output."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.gru = nn.GRU(6, hidden, batch_first=True)
        self.fc = nn.Linear(hidden, 4)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.gru(x)[0][:, -1])
        return logits


def trained(hidden: int, epochs: int, x: Tensor, y: Tensor) -> nn.Module:
    torch.manual_seed(0)
    model = Net(hidden)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(epochs):
        for rows in torch.randperm(len(y)).split(10):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
    return model


def main() -> None:
    torch.set_num_threads(1)
    with np.load(HERE / "data" / "motions.npz") as arrays:
        x, y = torch.from_numpy(arrays["x_train"]) / 5, torch.from_numpy(arrays["y_train"])
    torch.save(trained(24, 40, x, y).state_dict(), HERE / "reference.pt")
    submissions = HERE / "submissions"
    submissions.mkdir(exist_ok=True)
    torch.save(nn.DataParallel(trained(16, 30, x, y)).state_dict(), submissions / "ada__parallel.pt")  # every name begins with "module."
    torch.save(trained(8, 16, x, y).state_dict(), submissions / "grace__early.pt")
    torch.save(trained(8, 1, x[:10], y[:10]).state_dict(), submissions / "zeno__ten.pt")


if __name__ == "__main__":
    main()
