"""Descriptions of what torch saves, compared with torch's own words for it: the corners that test_saved_by_torch leaves."""

from __future__ import annotations

import io
import warnings
from itertools import pairwise
from typing import Any

import builders as b
import pytest
import torch
from describing import codes, described, tensors
from torch import nn

from fifomark.torchfile.description import Description, Group

FORMATS = pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])


def saved(thing: Any, legacy: bool = False) -> bytes:
    out = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.save(thing, out, _use_new_zipfile_serialization=not legacy)
    return out.getvalue()


def scripted(net: nn.Module, how: str, example: torch.Tensor) -> bytes:
    out = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(net) if how == "scripted" else torch.jit.trace(net, example), out)
    return out.getvalue()


def bits(tensor: torch.Tensor) -> bytes:
    flat = tensor.detach().contiguous().reshape(-1)
    return bytes(flat.view(torch.uint8).tolist()) if flat.numel() else b""


def assert_same(body: bytes, description: Description, group: Group, expected: dict[str, torch.Tensor]) -> None:
    """The group's names in their order, and under each torch's own dtype, shape, strides, offset, storage bytes and numbers."""
    assert [entry.name for entry in group.entries] == list(expected)
    for entry, tensor in zip(group.entries, expected.values(), strict=True):
        view = description.tensors[entry.tensor]
        storage = description.storages[view.storage]
        assert (view.shape, view.stride, view.offset) == (tuple(tensor.shape), tensor.stride(), tensor.storage_offset())
        assert view.dtype == str(tensor.dtype).removeprefix("torch.")
        raw = body[storage.start : storage.start + storage.stored]
        assert raw == bytes(tensor.untyped_storage().tolist())
        flat = torch.frombuffer(bytearray(raw or bytes(16)), dtype=tensor.dtype)
        assert bits(flat.as_strided(view.shape, view.stride, view.offset)) == bits(tensor)


def only_group(description: Description) -> Group:
    (group,) = [group for group in description.groups if group.entries]
    return group


@FORMATS
@pytest.mark.parametrize("thing", [torch.arange(6.0).reshape(2, 3), nn.Parameter(torch.ones(3)), torch.ones(3, dtype=torch.bool)])
def test_a_tensor_alone_is_a_sequence_of_one(thing: torch.Tensor, legacy: bool) -> None:
    body = saved(thing, legacy)
    description = described(body)
    group = only_group(description)
    assert (codes(description), group.kind, group.path) == ([], "sequence", ())
    assert_same(body, description, group, {"0": thing})


@FORMATS
def test_a_list_of_tensors_is_a_sequence(legacy: bool) -> None:
    listed = [torch.ones(2), torch.zeros(3, dtype=torch.int64)]
    body = saved(listed, legacy)
    description = described(body)
    assert only_group(description).kind == "sequence"
    assert_same(body, description, only_group(description), {str(i): tensor for i, tensor in enumerate(listed)})


@FORMATS
def test_nested_dicts_are_groups_by_their_paths(legacy: bool) -> None:
    inner, other = {"w": torch.randn(2, 3)}, {"w": torch.randn(4)}
    body = saved({"meta": {"epoch": 1}, "nets": {"g": {"state_dict": inner}, 7: other}, "loss": torch.tensor(0.5)}, legacy)
    description = described(body)
    groups = {group.path: group for group in description.groups if group.entries}
    assert set(groups) == {(), ("nets", "g", "state_dict"), ("nets", "7")}
    assert_same(body, description, groups["nets", "g", "state_dict"], inner)
    assert_same(body, description, groups["nets", "7"], other)
    assert {other.name: other.what for other in groups[()].others} == {"meta": "dict of 1", "nets": "dict of 2"}


@FORMATS
@pytest.mark.parametrize(
    "tensor",
    [
        torch.randn(3, 4, dtype=torch.complex128).transpose(0, 1),
        torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last),
        torch.arange(24, dtype=torch.int64).reshape(2, 3, 4)[:, 1:, ::2],
        torch.randn(1, 5).expand(7, 5),
        torch.randn(10).half()[3:7],
        torch.tensor(True),
        torch.empty(3, 0, 2),
        torch.zeros(()).expand(4),
    ],
    ids=["complex transposed", "channels last", "steps", "expanded", "half slice", "bool scalar", "empty", "expanded scalar"],
)
def test_strides_and_offsets_are_torchs_own(tensor: torch.Tensor, legacy: bool) -> None:
    body = saved({"w": tensor}, legacy)
    description = described(body)
    assert codes(description) == []
    assert_same(body, description, only_group(description), {"w": tensor})


class Shared(nn.Module):
    """Every way of holding parameters at once: lists, dicts, ties, a shared layer, buffers of both kinds, a missing bias."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1), requires_grad=False)
        self.many = nn.ParameterList([torch.randn(2), torch.randn(3)])
        self.named = nn.ParameterDict({"a": torch.randn(2, 2)})
        self.first = nn.Linear(4, 4, bias=False)
        self.again = self.first
        self.tied = nn.Linear(4, 4)
        self.tied.weight = self.first.weight
        self.norm = nn.BatchNorm1d(4)
        self.gru = nn.GRU(4, 3, 2, bidirectional=True)
        self.blocks = nn.ModuleDict({"x": nn.ModuleList([nn.Embedding(5, 4), nn.LayerNorm(4)])})
        self.register_buffer("mask", torch.zeros(2, dtype=torch.bool))
        self.register_buffer("scratch", torch.zeros(2), persistent=False)
        self.register_buffer("unset", None)


@FORMATS
@pytest.mark.parametrize("wrap", [nn.Sequential, nn.DataParallel], ids=["Sequential", "DataParallel"])
def test_a_module_that_holds_its_parameters_in_every_way_is_its_state_dict(wrap: Any, legacy: bool) -> None:
    net = wrap(Shared())
    body = saved(net, legacy)
    description = described(body)
    assert codes(description) == []
    assert_same(body, description, only_group(description), net.state_dict())


@pytest.mark.parametrize("how", ["scripted", "traced"])
@pytest.mark.parametrize(
    ("net", "example"),
    [
        (nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten()), torch.ones(1, 1, 5, 5)),
        (nn.LSTM(4, 3, 2, bidirectional=True), torch.ones(2, 1, 4)),
        (nn.Sequential(nn.Linear(3, 3).bfloat16(), nn.ReLU()), torch.ones(1, 3, dtype=torch.bfloat16)),
    ],
    ids=["cnn", "lstm", "bfloat16"],
)
def test_a_script_holds_the_numbers_of_its_state_dict(net: nn.Module, example: torch.Tensor, how: str) -> None:
    body = scripted(net.eval(), how, example)
    description = described(body)
    assert (description.container, codes(description)) == ("torchscript", [])
    seen = tensors(description)
    assert set(seen) == set(net.state_dict())
    for name, tensor in net.state_dict().items():
        view = seen[name]
        storage = description.storages[view.storage]
        data = body[storage.start : storage.start + storage.stored]
        assert storage.method == 0
        flat = torch.frombuffer(bytearray(data), dtype=tensor.dtype)
        assert bits(flat.as_strided(view.shape, view.stride, view.offset)) == bits(tensor)


@FORMATS
def test_storages_lie_in_the_file_and_apart(legacy: bool) -> None:
    body = saved(Shared().state_dict(), legacy)
    spans = sorted((storage.start, storage.start + storage.stored) for storage in described(body).storages)
    assert all(before[1] <= after[0] for before, after in pairwise(spans))
    assert spans[0][0] > 0
    assert spans[-1][1] <= len(body)


def test_one_empty_storage_under_two_types_is_honest() -> None:
    """torch writes it so: an empty storage has no address to know it by."""
    empty = torch.empty(0)
    assert codes(described(saved({"a": empty, "b": empty.view(torch.int32)}))) == []


def test_the_first_rebuilder_and_cuda_storages_of_old_files_are_read() -> None:
    storage = b.tuple_of(b.text("storage"), b.name("torch.cuda.FloatStorage"), b.text("0"), b.text("cuda:0"), b.integer(6), b"N") + b"Q"
    shape = b.tuple_of(b.integer(2), b.integer(3)), b.tuple_of(b.integer(1), b.integer(2))
    old = b.call("torch._utils._rebuild_tensor", storage, b.integer(0), *shape)
    description = described(b.legacy(b.pickled(b.ordered_dict((b.text("w"), old))), {"0": b.floats(6)}))
    assert codes(description) == []
    assert (tensors(description)["w"].shape, tensors(description)["w"].stride) == ((2, 3), (1, 2))


def viewed(*view: bytes) -> bytes:
    """A legacy file whose only tensor sees a view of its storage, as torch wrote them before 0.4."""
    named = b.text("storage"), b.name("torch.FloatStorage"), b.text("0"), b.text("cpu"), b.integer(6)
    storage = b.tuple_of(*named, b.tuple_of(*view)) + b"Q"
    sizes = b.tuple_of(b.integer(2)), b.tuple_of(b.integer(1))
    rebuilt = b.call("torch._utils._rebuild_tensor", storage, b.integer(1), *sizes)
    return b.legacy(b.pickled(b.ordered_dict((b.text("w"), rebuilt))), {"0": b.floats(6)})


def test_an_old_view_of_a_storage_moves_its_tensors() -> None:
    assert tensors(described(viewed(b.text("v"), b.integer(2), b.integer(3))))["w"].offset == 3


@pytest.mark.parametrize(
    ("view", "code"),
    [
        ((b.text("v"), b.integer((1 << 62) - 1), b.integer(3)), "FM301"),
        ((b.text("v"), b.integer(-1), b.integer(3)), "FM301"),
        ((b.text("v"), b"}", b"N"), "FM301"),
        ((b.text("v"), b.integer(1)), "FM304"),
        ((), "FM304"),
    ],
    ids=["overflow", "negative", "no number", "short", "empty"],
)
def test_an_old_view_that_torch_did_not_write_is_refused(view: tuple[bytes, ...], code: str) -> None:
    assert codes(described(viewed(*view))) == [code]
