"""A recurrent cell written by hand, run over all steps: torch's formulas, with the gates in the order that the rubric declares."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from fifomark.families import nets
from fifomark.families.by_hand import ORDERS, ByHand


def step(model: nets.Assembly, seen: ByHand, declared: Mapping[str, Any]) -> nets.Step:
    """CannotBuild with a finding where the order that is declared is that of another cell."""
    order = ORDERS.get(seen.cell, "")
    if seen.ordered and declared["gate_order"] != "torch":
        if sorted(declared["gate_order"]) != sorted(order):
            model.refuse(
                seen.leaf, f"is of {seen.cell}, which has no gates {declared['gate_order']}", "Build the cell that the task asks for."
            )
        order = declared["gate_order"]
    model.suppose(f"{seen.leaf} is of a cell by hand ({seen.cell} of {seen.hidden_size}) that runs over all steps from a state of zeros")
    if seen.cell == "gru":
        model.suppose("its new state is torch's: tanh(x + r · h), where h is what the layer over the state gives")
    if seen.input is None:
        model.suppose("the input stands before the state, side by side")
    held = {leaf.path: model.hold(leaf.path, nets.layer(model.family, leaf)) for leaf in seen.leaves}
    if seen.gates:
        gates = {letter: held[leaf.path] for letter, leaf in seen.gates.items()}
        return _Unrolled(seen, order, declared, gates)
    layers = {"state": held[seen.state.path], **({"input": held[seen.input.path]} if seen.input else {})}
    return _Unrolled(seen, order, declared, layers)


class _Unrolled:
    def __init__(self, seen: ByHand, order: str, declared: Mapping[str, Any], layers: Mapping[str, nn.Module]) -> None:
        self.cell, self.hidden, self.order, self.layers = seen.cell, seen.hidden_size, order, layers
        self.apart = bool(seen.gates)
        self.activation = torch.relu if declared["nonlinearity"] == "relu" else torch.tanh
        self.pooling, self.time = declared["pooling"], 1 if declared["batch_first"] else 0

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        from fifomark.families.rnn_net import pooled

        state = memory = x.new_zeros(x.shape[1 - self.time], self.hidden)
        outputs: list[torch.Tensor] = []
        for now in x.unbind(self.time):
            state, memory = self._next(now, state, memory)
            outputs.append(state)
        return state if self.pooling == "final_hidden" else pooled(torch.stack(outputs, self.time), self.pooling)

    def _next(self, x: torch.Tensor, state: torch.Tensor, memory: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if self.cell == "rnn":
            return self.activation(self._summed(x, state)), memory
        if self.cell == "gru":
            of_x, of_h = (self._by_letter(self.layers[name](given)) for name, given in (("input", x), ("state", state)))
            r, z = ((of_x[letter] + of_h[letter]).sigmoid() for letter in "rz")
            new = torch.tanh(of_x["n"] + r * of_h["n"])
            return (1 - z) * new + z * state, memory
        gates = self._apart(x, state) if self.apart else self._by_letter(self._summed(x, state))
        memory = gates["f"].sigmoid() * memory + gates["i"].sigmoid() * gates["g"].tanh()
        return gates["o"].sigmoid() * memory.tanh(), memory

    def _summed(self, x: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
        if "input" in self.layers:
            both: torch.Tensor = self.layers["input"](x) + self.layers["state"](state)
        else:
            both = self.layers["state"](torch.cat((x, state), dim=1))
        return both

    def _apart(self, x: torch.Tensor, state: torch.Tensor) -> dict[str, torch.Tensor]:
        both = torch.cat((x, state), dim=1)
        return {letter: layer(both) for letter, layer in self.layers.items()}

    def _by_letter(self, gates: torch.Tensor) -> dict[str, torch.Tensor]:
        return dict(zip(self.order, gates.chunk(len(self.order), dim=1), strict=True))
