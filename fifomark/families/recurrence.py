"""What the shapes of a recurrent layer say: the cell by its gates, sizes, levels, directions, projection."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from fifomark.core.findings import Finding
from fifomark.families.checks import misfit
from fifomark.families.layers import Kind, Leaf
from fifomark.families.names import recurrent_slot

_CELLS = {1: "rnn", 3: "gru", 4: "lstm"}  # by the number of gates


class Recurrence(NamedTuple):
    """An nn.RNN, nn.GRU or nn.LSTM, or a cell of one (`single`). `projection` is 0 without one."""

    leaf: Leaf
    cell: str
    input_size: int
    hidden_size: int
    levels: int
    directions: int
    projection: int
    bias: bool
    single: bool

    @property
    def gates(self) -> int:
        return next(gates for gates, cell in _CELLS.items() if cell == self.cell)

    @property
    def output_size(self) -> int:
        return self.directions * (self.projection or self.hidden_size)

    def __str__(self) -> str:
        words = [f"{self.cell} of {self.hidden_size}", f"{self.levels} levels" if self.levels > 1 else ""]
        words += ["both directions" if self.directions == 2 else "", f"projected to {self.projection}" if self.projection else ""]
        return ", ".join(filter(None, words))

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """The tensors that such a layer has, by local name."""
        rows, state = self.gates * self.hidden_size, self.projection or self.hidden_size
        shapes: dict[str, tuple[int, ...]] = {}
        for level in range(self.levels):  # counted from the tensors that are there
            for back in ("", "_reverse")[: self.directions]:
                end = "" if self.single else f"_l{level}{back}"
                shapes |= {f"weight_ih{end}": (rows, self.input_size if level == 0 else self.output_size), f"weight_hh{end}": (rows, state)}
                shapes |= {f"bias_ih{end}": (rows,), f"bias_hh{end}": (rows,)} if self.bias else {}
                shapes |= {f"weight_hr{end}": (self.projection, self.hidden_size)} if self.projection else {}
        return shapes


def recurrence(leaf: Leaf) -> Recurrence | None:
    """None where the first level does not show a cell: its tensors are not there, or its rows are not 1, 3 or 4 gates."""
    single = leaf.kind is Kind.CELL
    end = "" if single else "_l0"
    ih, hh, hr = (leaf.parts.get(f"{what}{end}") for what in ("weight_ih", "weight_hh", "weight_hr"))
    if ih is None or hh is None or len(ih.shape) != 2 or len(hh.shape) != 2 or (hr is not None and len(hr.shape) != 2):
        return None
    hidden = hr.shape[1] if hr is not None else hh.shape[1]
    cell = _CELLS.get(hh.shape[0] // hidden) if hidden and hh.shape[0] % hidden == 0 else None
    if cell is None or (hr is not None and cell != "lstm"):
        return None
    slots = [slot for local in leaf.parts if (slot := recurrent_slot(local))]
    return Recurrence(
        leaf,
        cell,
        input_size=ih.shape[1],
        hidden_size=hidden,
        levels=1 if single else len({level for what, level, back in slots if what == "weight_hh" and not back}),
        directions=2 if any(back for _, _, back in slots) else 1,
        projection=hr.shape[0] if hr is not None else 0,
        bias=f"bias_ih{end}" in leaf.parts,
        single=single,
    )


def gates_sentence(leaf: Leaf) -> str:
    """`lstm.weight_hh_l0 (128, 32): 4 gates of 32: lstm of 32`"""
    seen = recurrence(leaf)
    if seen is None:
        return f"{leaf}: named as a recurrent layer"
    return f"{leaf}: {seen.gates} gate{'s' if seen.gates > 1 else ''} of {seen.hidden_size}: {seen}"


def broken(leaf: Leaf) -> Iterator[Finding]:
    """Tensors whose shapes are not those of any recurrent layer of torch."""
    seen = recurrence(leaf)
    if seen is None:
        yield misfit(leaf.weight, "expected rows of 1, 3 or 4 times the hidden size (the columns): an RNN, a GRU or an LSTM")
        return
    shapes = seen.shapes()
    for local, spec in leaf.parts.items():
        if shapes.get(local) != spec.shape:
            yield misfit(spec, f"expected {shapes.get(local, 'no such tensor')} in a {seen}")
    if missing := [local for local in shapes if local not in leaf.parts]:
        yield misfit(leaf.weight, f"{', '.join(missing[:4])} should stand beside it in a {seen}")
