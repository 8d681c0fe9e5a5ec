"""Models that do more than compute once they are TorchScript. It is harmless: they write to, or read, a file that a test names."""

from __future__ import annotations

import io
import warnings

import torch
from torch import nn


class _Saver(nn.Module):
    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path

    @torch.jit.export
    def __getstate__(self) -> tuple[str, bool]:
        return self.path, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[str, bool]) -> None:
        self.path = state[0]
        self.training = state[1]
        torch.save(torch.ones(1), self.path)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


class SavesWhenLoaded(nn.Module):
    def __init__(self, path: str) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 3)
        self.saver = _Saver(path)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.saver(x))


class _Scale(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.full((3,), 2.0)

    @torch.jit.export
    def __getstate__(self) -> tuple[torch.Tensor, bool]:
        return self.scale, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[torch.Tensor, bool]) -> None:
        self.scale = state[0]
        self.training = state[1]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.scale


class KeepsItsState(nn.Module):
    """What honest quantised layers do: a `__setstate__` that only sets."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 3)
        self.scale = _Scale()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.scale(self.fc(x))


class _Acting(nn.Module):
    def __init__(self, path: str) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 3)
        self.path = path


class SavesWhenRun(_Acting):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        torch.save(x, self.path)
        return self.fc(x)


class MapsWhenRun(_Acting):
    """Writes through the map: the file is made if it is not there."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mapped = torch.from_file(self.path, shared=True, size=4).fill_(0.5)
        return self.fc(x) + mapped[0]


class ReadsWhenRun(_Acting):
    """The labels, say."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(x) + torch.from_file(self.path, shared=False, size=3)


class NeverEnds(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.fc(x)
        while bool((h == h).all()):
            h = h + 1
            h = h - 1
        return h


class TakesAll(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(x) + torch.ones(1 << 36).sum()


class GivesTwo(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.fc(x), x


class WantsFive(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(5, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(x)


def scripted(model: nn.Module) -> bytes:
    out = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(model.eval()), out)
    return out.getvalue()


def run_unguarded(body: bytes, inputs: torch.Tensor) -> torch.Tensor:
    """What torch itself does with it: the control, which shows that an attack is one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        outputs: torch.Tensor = torch.jit.load(io.BytesIO(body))(inputs)
        return outputs
