"""The layers of a pickled module, bounded: enough to build it again where they are all torch's own, and to say which are not."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec.structs import replace

from fifomark.core.layers import Layer, Value
from fifomark.families.stock import attributes_of
from fifomark.sanitizer.allowlist import BUILDING_BLOCKS
from fifomark.sanitizer.forms import Chosen
from fifomark.torchfile.description import Description

MAX_LAYERS = 2000
MAX_BYTES = 128 << 10  # as JSON: a ticket with them must not fill the pipe to a worker
_NAMED = 5  # layers of unknown classes


def tree(description: Description, chosen: Chosen) -> tuple[Layer, ...]:
    """The layers of the module that the chosen weights are in, their paths below what was stripped of the weights' names.

    Of a module with layers that are not torch's own only the first few of those. Empty where there is no such tree, or it is too large.
    """
    layers = _of_group(description, chosen) if chosen.form == "module" else []
    foreign = [layer for layer in layers if not is_stock(layer.cls)]
    if foreign:
        layers = [replace(layer, attributes={}) for layer in foreign[:_NAMED]]
    if len(layers) > MAX_LAYERS:
        return ()
    kept = tuple(replace(layer, attributes=_telling(layer)) for layer in layers)
    return kept if len(msgspec.json.encode(kept)) <= MAX_BYTES else ()


def is_stock(cls: str) -> bool:
    block = BUILDING_BLOCKS.get(cls)
    return block is not None and block.uses == {"module"}


def _of_group(description: Description, chosen: Chosen) -> Sequence[Layer]:
    """The parser lists trees one after another, in the order of their groups; each begins with its root."""
    trees: list[list[Layer]] = []
    for layer in description.layers:
        if not layer.path:
            trees.append([])
        if trees:
            trees[-1].append(layer)
    modules = [group for group in description.groups if group.kind == "module"]
    index = next((i for i, group in enumerate(modules) if group is chosen.group), None)
    if index is None or len(trees) != len(modules):
        return []
    below = chosen.stripped
    if not below:
        return trees[index]
    inside = [layer for layer in trees[index] if f"{layer.path}.".startswith(below)]
    return [replace(layer, path=layer.path[len(below) :]) for layer in inside]


def _telling(layer: Layer) -> dict[str, Value]:
    known = attributes_of(layer.cls)
    return {name: value for name, value in layer.attributes.items() if name in known}
