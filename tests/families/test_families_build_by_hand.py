"""Recurrent cells written by hand, as students and tutorials write them: built, and equal in every output."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from rebuilding import rebuilt, same
from torch import Tensor, nn

from fifomark.core.errors import CannotBuild, ConfigError
from fifomark.families import registry
from fifomark.families.family import settle

INPUTS, HIDDEN, STEPS = 5, 8, 7


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(7)


class Cell(nn.Module):
    """Two layers, over the input and over the state, with `gates` in one matrix each."""

    def __init__(self, gates: int, order: str = "", names: tuple[str, str] = ("x2h", "h2h"), act: Any = torch.tanh) -> None:
        super().__init__()
        self.names, self.gates, self.order, self.act = names, gates, order, act
        self.add_module(names[0], nn.Linear(INPUTS, gates * HIDDEN))
        self.add_module(names[1], nn.Linear(HIDDEN, gates * HIDDEN, bias=gates != 1))

    def forward(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        of_x, of_h = getattr(self, self.names[0])(x), getattr(self, self.names[1])(h)
        if self.gates == 1:
            return self.act(of_x + of_h), c
        xs, hs = (dict(zip(self.order, each.chunk(self.gates, 1), strict=True)) for each in (of_x, of_h))
        if self.gates == 3:
            r, z = (torch.sigmoid(xs[letter] + hs[letter]) for letter in "rz")
            return (1 - z) * torch.tanh(xs["n"] + r * hs["n"]) + z * h, c
        i, f, g, o = (xs[letter] + hs[letter] for letter in "ifgo")
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        return o.sigmoid() * c.tanh(), c


class Gates(nn.Module):
    """An LSTM whose gates are a layer each, over input and state side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.forget_gate, self.input_gate, self.cell_gate, self.output_gate = (nn.Linear(INPUTS + HIDDEN, HIDDEN) for _ in range(4))

    def forward(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        both = torch.cat((x, h), 1)
        c = self.forget_gate(both).sigmoid() * c + self.input_gate(both).sigmoid() * self.cell_gate(both).tanh()
        return self.output_gate(both).sigmoid() * c.tanh(), c


class Tutorial(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.i2h = nn.Linear(INPUTS + HIDDEN, HIDDEN)

    def forward(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        return torch.tanh(self.i2h(torch.cat((x, h), 1))), c


class Network(nn.Module):
    def __init__(self, cell: nn.Module, pooling: str = "last", words: int = 0) -> None:
        super().__init__()
        if words:
            self.embedding = nn.Embedding(words, INPUTS)
        self.cell, self.fc, self.pooling = cell, nn.Linear(HIDDEN, 3), pooling

    def forward(self, x: Tensor) -> Tensor:
        x = self.embedding(x) if hasattr(self, "embedding") else x
        h = c = torch.zeros(len(x), HIDDEN)
        outputs = []
        for step in x.unbind(1):
            h, c = self.cell(step, h, c)
            outputs.append(h)
        steps = torch.stack(outputs, 1)
        pooled = {"last": steps[:, -1], "mean": steps.mean(1), "max": steps.amax(1), "final_hidden": h, "none": steps}[self.pooling]
        return self.fc(pooled)


CELLS: dict[str, tuple[Any, dict[str, Any]]] = {
    "elman": (lambda: Cell(1, names=("W_xh", "W_hh")), {}),
    "elman of a textbook": (lambda: Cell(1, names=("Wx", "Wh")), {}),
    "gru of a textbook": (lambda: Cell(3, "rzn", names=("inp", "rec")), {}),
    "elman with relu": (lambda: Cell(1, act=torch.relu), {"nonlinearity": "relu"}),
    "gru": (lambda: Cell(3, "rzn"), {}),
    "gru in another order": (lambda: Cell(3, "zrn"), {"gate_order": "zrn"}),
    "lstm": (lambda: Cell(4, "ifgo"), {}),
    "lstm in another order": (lambda: Cell(4, "fiog"), {"gate_order": "fiog"}),
    "lstm of four layers": (Gates, {}),
    "the tutorial's": (Tutorial, {}),
}


@pytest.mark.parametrize("name", CELLS)
def test_a_cell_by_hand(name: str) -> None:
    make, declared = CELLS[name]
    built = same(Network(make()), torch.randn(4, STEPS, INPUTS), declared)
    assert any("a cell by hand" in sentence for sentence in built.assumed)  # type: ignore[union-attr]


@pytest.mark.parametrize("pooling", ["last", "mean", "max", "final_hidden", "none"])
def test_what_of_its_steps_goes_on_is_declared(pooling: str) -> None:
    same(Network(Cell(4, "ifgo"), pooling), torch.randn(4, STEPS, INPUTS), {"pooling": pooling})


def test_over_embedded_words() -> None:
    same(Network(Cell(1), words=20), torch.randint(0, 20, (4, STEPS)))


def test_one_that_reads_the_first_axis_as_time_is_another_model() -> None:
    model, x = Network(Cell(1), "none").eval(), torch.randn(STEPS, STEPS, INPUTS)
    built = rebuilt(model.state_dict(), (STEPS, INPUTS), {"pooling": "none", "batch_first": False})
    with torch.no_grad():
        torch.testing.assert_close(built(x.transpose(0, 1)), model(x).transpose(0, 1), rtol=0, atol=1e-6)
        assert not torch.allclose(built(x), model(x), atol=1e-3)


def test_two_cells_are_not_taken_for_one() -> None:
    model = nn.ModuleDict({"one": Cell(1), "two": Cell(1), "fc": nn.Linear(HIDDEN, 3)})
    with pytest.raises(CannotBuild):
        rebuilt(model.state_dict(), (STEPS, INPUTS))


def test_gates_of_another_cell_are_told() -> None:
    with pytest.raises(CannotBuild, match="is of lstm, which has no gates rzn"):
        rebuilt(Network(Cell(4, "ifgo")).state_dict(), (STEPS, INPUTS), {"gate_order": "rzn"})
    with pytest.raises(ConfigError, match='must be "torch", or the letters ifgo'):
        settle(registry.family("rnn"), {"gate_order": "ifg"}, "rubric.toml")
