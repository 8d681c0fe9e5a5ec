"""What must hold inside a layer in every family, and how a broken rule is reported."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

from fifomark.core.catalogue import find
from fifomark.core.findings import Finding
from fifomark.core.text import shown
from fifomark.core.weights import TensorSpec
from fifomark.families.layers import Kind, Layers, Leaf, said

MOST = 20  # findings of one file; a hostile one could earn a hundred thousand
_RESAVE = (
    "Save the model that you trained again, with its layers as torch.nn makes them, and load the file with strict=True before submitting."
)
_FLOATS = ("float64", "float32", "float16", "bfloat16")
_WHOLE = ("num_batches_tracked", "zero_point")  # these are whole numbers in every sound file
_WEIGHTY = (Kind.LINEAR, Kind.MATRIX, Kind.CONV, Kind.BATCHNORM, Kind.NORM, Kind.SCALE, Kind.RECURRENT, Kind.CELL, Kind.ATTENTION)


def misfit(tensor: TensorSpec, message: str, advice: str = _RESAVE) -> Finding:
    """FM505 about one tensor; `message` says what was expected."""
    return find("FM505", tensor.name, f"{said(tensor)}: {message}", evidence=f"shape {tensor.shape}", advice=advice)


def expect(leaf: Leaf, local: str, *shapes: tuple[int, ...], why: str) -> Iterator[Finding]:
    """A finding where the leaf has a tensor `local` whose shape is none of `shapes`."""
    spec = leaf.parts.get(local)
    if spec is not None and spec.shape not in shapes:
        yield misfit(spec, f"expected {shown(' or '.join(map(str, shapes)), 200)}, {why}")


def bounded(findings: Iterable[Finding]) -> list[Finding]:
    return list(islice(findings, MOST))


def inside_layers(layers: Layers, *, turned: bool = False) -> Iterator[Finding]:
    """Biases and statistics as long as their weight says, numbers that are floating point. `turned` allows (in, out) matrices (GPT-2)."""
    for leaf in layers.of(*_WEIGHTY):
        yield from _numbers(leaf)
        if leaf.kind is Kind.LINEAR:
            sides = leaf.shape if turned else leaf.shape[:1]
            yield from expect(leaf, "bias", *((side,) for side in sides), why=f"one for each row of {leaf}")
        elif leaf.kind is Kind.CONV:
            if not _of_groups(leaf):
                yield from expect(leaf, "bias", *((side,) for side in leaf.shape[:2]), why=f"one for each output channel of {leaf}")
        elif leaf.kind in (Kind.BATCHNORM, Kind.NORM):
            yield from _norm(leaf)


def _of_groups(leaf: Leaf) -> bool:
    """A transposed convolution in groups: as many biases as groups times the second side, and the groups share the first."""
    bias, side = leaf.parts.get("bias"), leaf.shape[1]
    return bias is not None and side > 0 and bias.numel % side == 0 and bias.numel > 0 and leaf.shape[0] % (bias.numel // side) == 0


def _numbers(leaf: Leaf) -> Iterator[Finding]:
    for local, spec in leaf.tensors.items():
        if local not in _WHOLE and not local.endswith("_mask") and spec.dtype not in _FLOATS:
            yield misfit(spec, f"holds {spec.dtype}, expected floating point numbers")
        if 0 in spec.shape:
            yield misfit(spec, "is empty")


def _norm(leaf: Leaf) -> Iterator[Finding]:
    if leaf.kind is Kind.BATCHNORM and len(leaf.shape) != 1:
        yield misfit(leaf.weight, "expected one number for each channel")
    for local in ("bias", "running_mean", "running_var"):
        yield from expect(leaf, local, leaf.shape, why=f"as {leaf}")
    yield from expect(leaf, "num_batches_tracked", (), why="a single number")
