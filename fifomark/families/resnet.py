"""`layers = "resnet"`: the layers of a ResNet whose parts are called as torchvision's are, written out from the file.

conv1, bn1, layer1.0.conv1, … fc (or linear); basic blocks or bottlenecks, the shortcut as `downsample` or `shortcut`; ResNeXt and wide ones
too. What no file tells is as torchvision has it: a stem of kernel 7 has stride 2 and a max pooling of 3 after it, each stage but the first
begins with stride 2 (in a bottleneck at the 3×3), ReLU, a global average. A stem of kernel 3 is that for small pictures: stride 1, no
pooling.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fifomark.families.layers import Kind, Layers, Leaf

Written = list[dict[str, Any]]
_HEADS = ("fc", "linear")
_SHORTCUTS = ("downsample", "shortcut")
_MOST_STAGES, _MOST_BLOCKS = 8, 200


def written_out(layers: Layers) -> Written | Leaf:
    """As a rubric would write `layers`; or the first layer that has no place in it."""
    there = [leaf for leaf in layers.leaves if leaf.kind is not Kind.COUNTER]
    prefix = there[0].path.removesuffix("conv1")
    if odd := next((leaf for leaf in there if leaf.kind is Kind.CONV and len(leaf.shape) != 4), None):
        return odd
    parts = {leaf.path.removeprefix(prefix): leaf for leaf in there if leaf.path.startswith(prefix)}
    try:
        used, written = _stem(parts)
        for stage in range(1, _MOST_STAGES + 1):
            for block in _blocks(parts, stage):
                names, lines = _block(parts, block, stride=2 if stage > 1 and block.endswith(".0.") else 1)
                used, written = used + names, written + lines
        head = next(name for name in _HEADS if name in parts)
    except (KeyError, StopIteration):
        return there[0]
    used.append(head)
    strange = next((leaf for leaf in there if leaf.path.removeprefix(prefix) not in used), None)
    return strange or [*written, {"globalavgpool": {}}, {"linear": {}}]


def _stem(parts: Mapping[str, Leaf]) -> tuple[list[str], Written]:
    small = parts["conv1"].shape[2:] == (3, 3)
    first = _conv(parts["conv1"], stride=1 if small else 2)
    pool = [] if small else [{"maxpool2d": {"kernel": 3, "stride": 2, "padding": 1}}]
    return ["conv1", "bn1"], [*first, *pool]


def _blocks(parts: Mapping[str, Leaf], stage: int) -> Iterator[str]:
    """`layer2.0.`, `layer2.1.`, …"""
    for block in range(_MOST_BLOCKS):
        prefix = f"layer{stage}.{block}."
        if f"{prefix}conv1" not in parts:
            return
        yield prefix


def _block(parts: Mapping[str, Leaf], prefix: str, stride: int) -> tuple[list[str], Written]:
    numbers = [number for number in (1, 2, 3) if f"{prefix}conv{number}" in parts]
    body: Written = []
    for number in numbers:
        strided = number == len(numbers) - 1  # the first of two, the second of three
        body += _conv(parts[f"{prefix}conv{number}"], stride if strided else 1)
    names = [f"{prefix}{kind}{number}" for number in numbers for kind in ("conv", "bn")]
    shortcut: Written = []
    for name in (f"{prefix}{word}" for word in _SHORTCUTS):
        if f"{name}.0" in parts:
            shortcut, names = _conv(parts[f"{name}.0"], stride)[:-1], [*names, f"{name}.0", f"{name}.1"]
    return names, [{"residual": {"body": body[:-1], "shortcut": shortcut}}, {"relu": {}}]


def _conv(leaf: Leaf, stride: int) -> Written:
    """Convolution, batch norm, ReLU."""
    kernel = list(leaf.shape[2:])
    padding = [side // 2 for side in kernel]
    return [{"conv2d": {"kernel": kernel, "stride": stride, "padding": padding}}, {"batchnorm2d": {}}, {"relu": {}}]
