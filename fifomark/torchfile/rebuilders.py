"""What honest files give to torch's own rebuilders, wherever in a pickle they are called: also where nobody looks for a tensor.

A rebuilder calls methods of what it is given and sets attributes on what it makes, so something else in the place of a tensor is a way to
run code, and some attributes make another tensor than the file shows. Standard library only: this runs in the locked-down parser.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

from fifomark.torchfile.arguments import Fits
from fifomark.torchfile.stand_ins import Inert, Stand, StorageRef, is_mapping

_UTILS, _BY_TYPE = "torch._utils._rebuild_", "torch._tensor._rebuild_from_type_v2"
_TYPES = ("torch.Tensor", "torch.nn.parameter.Parameter", "torch.nn.parameter.Buffer")
# What setting these does to a tensor: other numbers, hooks, or another meaning of its numbers.
_SET = frozenset(
    {"data", "grad", "_grad", "real", "imag", "requires_grad", "retains_grad", "grad_dtype", "names", "volatile"}
    | {"_backward_hooks", "_post_accumulate_grad_hooks"}
)
_MOST_LAYERS = 10_000  # that a recurrent layer goes through when it is loaded


def _untouched(node: Inert) -> bool:
    return not (node.states or node.items or node.values or node.kwargs)


def _is_tensor(value: Any) -> bool:
    if not isinstance(value, Inert) or value.how != "call":
        return False
    name = type(value).full_name
    return name.startswith(_UTILS) or name == _BY_TYPE


def _are_dims(value: Any) -> bool:
    """A tuple of numbers, which nothing can change any more."""
    if isinstance(value, Inert) and type(value).full_name == "torch.Size" and len(value.args) == 1:
        value = value.args[0]
    return isinstance(value, tuple) and all(type(n) is int for n in value)


def _are_hooks(value: Any) -> bool:
    return value is None or is_mapping(value)


def _is_state(value: Any) -> bool:
    """Attributes of a tensor: None, a dict of them, or (dict, slots)."""
    parts = value if isinstance(value, tuple) else (value,)
    return len(parts) <= 2 and all(part is None or (type(part) is dict and all(map(_is_attribute, part))) for part in parts)


def _is_attribute(name: Any) -> bool:
    return type(name) is str and name not in _SET and not name.startswith("__")


def _tensor(node: Inert) -> bool:
    args = node.args
    if not _untouched(node) or len(args) < 4 or not isinstance(args[0], StorageRef) or type(args[1]) is not int:
        return False
    return _are_dims(args[2]) and _are_dims(args[3]) and all(map(_are_hooks, args[5:6]))


def _parameter(node: Inert) -> bool:
    """(tensor, requires_grad, hooks), and perhaps its state."""
    args = node.args
    if not _untouched(node) or len(args) not in (3, 4) or not _is_tensor(args[0]):
        return False
    return type(args[1]) is bool and _are_hooks(args[2]) and all(map(_is_state, args[3:]))


def _by_type(node: Inert) -> bool:
    """(a rebuilder, the type, its arguments, state)"""
    if not _untouched(node) or len(node.args) != 4:
        return False
    function, made, args, state = node.args
    known = isinstance(function, Stand) and function.full_name.startswith(_UTILS)
    return known and isinstance(made, Stand) and made.full_name in _TYPES and isinstance(args, tuple) and _is_state(state)


def _quantized(node: Inert) -> bool:
    """No larger than its storage: memory is taken for what it says."""
    args = node.args
    if not _untouched(node) or len(args) < 4 or not isinstance(args[0], StorageRef) or not _are_dims(args[2]):
        return False
    size = args[2].args[0] if isinstance(args[2], Inert) else args[2]
    return type(args[0].numel) is int and prod(size) <= args[0].numel


def _packed(node: Inert) -> bool:
    """Sequences of several lengths: (data, batch sizes), and the two orders or neither: from one of them torch would work out the other."""
    args = node.args
    if not _untouched(node) or len(args) != 4 or not all(map(_is_tensor, args[:2])):
        return False
    return args[2] is args[3] is None or all(map(_is_tensor, args[2:]))


def _recurrent(node: Inert) -> bool:
    """One that does not go through layers without end."""
    layers = [state.get("num_layers", 1) for state in node.states if isinstance(state, dict)]
    return all(type(count) is int and count <= _MOST_LAYERS for count in layers)


REBUILT: Mapping[str, Fits] = {
    **{f"{_UTILS}tensor{version}": _tensor for version in ("", "_v2", "_v3")},
    **{f"{_UTILS}parameter{more}": _parameter for more in ("", "_with_state")},
    _BY_TYPE: _by_type,
    f"{_UTILS}qtensor": _quantized,
    "torch.nn.utils.rnn.PackedSequence": _packed,
    **{f"torch.nn.modules.rnn.{name}": _recurrent for name in ("RNNBase", "RNN", "GRU", "LSTM")},
}
