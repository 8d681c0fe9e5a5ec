"""Trains this example's reference and three submissions of different quality: python train.py"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

HERE = Path(__file__).parent


class Net(nn.Module):
    """An encoder over 24 words, its outputs averaged."""

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(2001, width)
        self.pos = nn.Parameter(torch.randn(1, 24, width) * 0.02)
        layer = nn.TransformerEncoderLayer(width, nhead=4, dim_feedforward=2 * width, dropout=0.2, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.fc = nn.Linear(width, 5)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.encoder(self.embed(x) + self.pos).mean(1))
        return logits


def trained(width: int, layers: int, epochs: int, x: Tensor, y: Tensor) -> nn.Module:
    torch.manual_seed(0)
    model = Net(width, layers)
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3, weight_decay=0.05)
    for _ in range(epochs):
        for rows in torch.randperm(len(y)).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
            optimizer.step()
    return model


def main() -> None:
    torch.set_num_threads(1)
    with np.load(HERE / "data" / "docstrings.npz") as arrays:
        x, y = torch.from_numpy(arrays["x_train"]), torch.from_numpy(arrays["y_train"])
    torch.save(trained(32, 1, 8, x, y).state_dict(), HERE / "reference.pt")
    submissions = HERE / "submissions"
    submissions.mkdir(exist_ok=True)
    torch.save(trained(24, 2, 8, x, y).half().state_dict(), submissions / "ada__half.pt")  # float16
    torch.save(trained(16, 1, 5, x, y).state_dict(), submissions / "grace__early.pt")
    torch.save(trained(16, 1, 1, x[:64], y[:64]).state_dict(), submissions / "zeno__few.pt")


if __name__ == "__main__":
    main()
