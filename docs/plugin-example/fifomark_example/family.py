"""Radial basis function networks: one layer of bumps around centres, and a linear layer over how near an example is to each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fifomark.core.findings import Finding
from fifomark.families.checks import expect, inside_layers, misfit
from fifomark.families.family import Fact, Family, Match
from fifomark.families.layers import Kind, Layers

if TYPE_CHECKING:
    from torch import nn


PARTS = ("bumps.centres", "bumps.log_widths", "out")


class RBF(Family):
    """`bumps.centres` (units, inputs), `bumps.log_widths` (units,), and a linear layer called `out`."""

    name = "rbf"
    # What changes the outputs and no file of weights can tell. Without a default it must be declared.
    facts = {"kernel": Fact("how a unit falls off with the distance", default="gaussian", allowed=("gaussian", "inverse"))}

    def judge(self, layers: Layers) -> Match | None:
        others = {leaf.path: leaf.weight for leaf in layers.of(Kind.OTHER)}
        centres, widths, out = others.get("bumps.centres"), others.get("bumps.log_widths"), layers.by_path.get("out")
        if centres is None or len(centres.shape) != 2:
            return None  # nothing speaks for it
        known = [centres.name, *([widths.name] if widths else []), *([out.path] if out else [])]
        return Match(
            family=self.name,
            strength=len(known) / (len(layers.leaves) + (widths is None) + (out is None)),
            evidence=(f"centres of {centres.shape[0]} units in {centres.shape[1]} dimensions",),
            contradictions=tuple(f"also {leaf}" for leaf in layers.leaves if leaf.path not in known),
            read={"units": centres.shape[0], "inputs": centres.shape[1], "outputs": out.shape[0] if out else 0},
            layers=layers,
        )

    def invariants(self, match: Match) -> list[Finding]:
        """All that could keep the weights from fitting into what `build` makes. `inside_layers` looks after the linear layer."""
        leaves = {leaf.path: leaf for leaf in match.layers.leaves}
        units, centres = int(str(match.read["units"])), leaves["bumps.centres"].weight
        findings = list(inside_layers(match.layers))
        findings += [misfit(leaf.weight, "is no part of an RBF network") for path, leaf in leaves.items() if path not in PARTS]
        findings += [misfit(centres, f"stands there without {path}") for path in PARTS if path not in leaves]
        bumps = [leaf.weight for path, leaf in leaves.items() if path in PARTS[:2]]
        findings += [misfit(spec, f"holds {spec.dtype}, expected floating point numbers") for spec in bumps if "float" not in spec.dtype]
        if "bumps.log_widths" in leaves:
            findings += expect(leaves["bumps.log_widths"], "log_widths", (units,), why="one for each centre")
        if "out" in leaves and leaves["out"].shape[1] != units:
            findings.append(misfit(leaves["out"].weight, f"takes {leaves['out'].shape[1]} inputs, but there are {units} units"))
        return findings

    def build(self, match: Match, declared: Mapping[str, Any], input_shape: tuple[int, ...]) -> nn.Module:
        """`declared` has a value for each fact. The file is loaded strictly into what this gives."""
        from fifomark_example.net import Net  # torch, and only now

        sizes = (int(str(match.read[name])) for name in ("inputs", "units", "outputs"))
        return Net(*sizes, kernel=declared["kernel"], bias=match.layers.by_path["out"].bias).eval()
