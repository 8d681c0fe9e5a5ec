"""The network that this rubric marks: trusted Python of whoever runs the marking. Submitters get this file, and train it."""

from __future__ import annotations

from torch import Tensor, nn


class Net(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(10)
        self.hidden = nn.Linear(10, hidden)
        self.out = nn.Linear(hidden, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(n, 10) measurements → (n, 1) progression of the disease in a year."""
        return 150 + 75 * self.out(self.hidden(self.norm(x)).tanh())
