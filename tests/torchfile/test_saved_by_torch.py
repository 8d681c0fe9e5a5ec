from __future__ import annotations

import io
import warnings
from typing import Any

import pytest
import torch
from describing import calls, codes, described, tensors, uses
from torch import nn

from fifomark.torchfile.description import Description

DTYPES = (
    "float64",
    "float16",
    "bfloat16",
    "float8_e4m3fn",
    "float8_e5m2",
    "int8",
    "uint8",
    "int16",
    "uint16",
    "uint32",
    "bool",
    "complex64",
)
FORMATS = pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 2)
        self.register_buffer("scratch", torch.zeros(2), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.norm(self.conv(x))).mean((2, 3)))


def saved(thing: Any, legacy: bool = False) -> bytes:
    out = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.save(thing, out, _use_new_zipfile_serialization=not legacy)
    return out.getvalue()


def values(body: bytes, description: Description, name: str) -> torch.Tensor:
    """The tensor as its description finds it in the file."""
    view = tensors(description)[name]
    storage = description.storages[view.storage]
    raw = bytearray(body[storage.start : storage.start + storage.nbytes])
    flat = torch.frombuffer(raw, dtype=getattr(torch, view.dtype)) if raw else torch.empty(0, dtype=getattr(torch, view.dtype))
    return flat.as_strided(view.shape, view.stride, view.offset)


def assert_same(body: bytes, expected: dict[str, torch.Tensor]) -> Description:
    """Names, order, dtypes, shapes and numbers are torch's own."""
    description = described(body)
    assert codes(description) == []
    assert calls(description) == []
    assert list(tensors(description)) == list(expected)
    for name, tensor in expected.items():
        seen = values(body, description, name)
        assert (seen.dtype, seen.shape, seen.stride()) == (tensor.dtype, tensor.shape, tensor.stride())
        assert seen.contiguous().view(torch.uint8).equal(tensor.detach().contiguous().view(torch.uint8)) if tensor.dim() else seen == tensor
    return description


@FORMATS
def test_a_state_dict_has_the_names_shapes_and_numbers_that_torch_gives_it(legacy: bool) -> None:
    state = Net().state_dict()
    description = assert_same(saved(state, legacy), state)
    assert description.container == ("legacy" if legacy else "zip")
    assert description.root == "mapping"
    assert description.root_keys == tuple(state)
    assert description.members == ()


@FORMATS
def test_a_checkpoint_keeps_model_and_optimizer_apart(legacy: bool) -> None:
    net = Net()
    optimizer = torch.optim.Adam(net.parameters())
    net(torch.ones(2, 1, 5, 5)).sum().backward()
    optimizer.step()
    description = described(saved({"epoch": 3, "model": net.state_dict(), "optimizer": optimizer.state_dict()}, legacy))
    groups = {group.path: [entry.name for entry in group.entries] for group in description.groups}
    assert groups["model",] == list(net.state_dict())
    assert groups["optimizer", "state", "0"] == ["step", "exp_avg", "exp_avg_sq"]
    assert description.root_keys == ("epoch", "model", "optimizer")
    assert codes(description) == []


@FORMATS
def test_data_parallel_keeps_its_prefix(legacy: bool) -> None:
    state = nn.DataParallel(Net()).state_dict()
    assert all(name.startswith("module.") for name in state)
    assert_same(saved(state, legacy), state)


@FORMATS
@pytest.mark.parametrize(
    "module",
    [
        Net(),
        nn.LSTM(3, 4, 2, batch_first=True, bidirectional=True),
        nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, activation="gelu", norm_first=False), 2, enable_nested_tensor=False),
        nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3))),
    ],
    ids=["cnn", "lstm", "transformer", "sequential"],
)
def test_a_whole_module_has_the_names_of_its_state_dict(module: nn.Module, legacy: bool) -> None:
    description = assert_same(saved(module, legacy), module.state_dict())
    assert description.root == "module"
    assert [layer.path for layer in description.layers] == [name for name, _ in module.named_modules()]


def test_layers_keep_what_their_constructors_were_told() -> None:
    encoder = nn.TransformerEncoderLayer(8, 2, activation="gelu", batch_first=True)
    model = nn.Sequential(nn.Conv2d(1, 4, (3, 5), stride=2), nn.LSTM(3, 4, batch_first=True), nn.Dropout(0.25), encoder)
    layers = {layer.path: layer for layer in described(saved(model)).layers}
    assert layers["0"].cls == "torch.nn.modules.conv.Conv2d"
    assert layers["0"].attributes["kernel_size"] == [3, 5]
    assert layers["1"].attributes["batch_first"] is True
    assert layers["2"].attributes["p"] == 0.25
    assert layers["3"].attributes["activation"] == "torch._C._nn.gelu"
    assert layers["3.self_attn"].attributes["num_heads"] == 2


@FORMATS
def test_a_class_of_ones_own_is_used_as_a_module_and_in_no_other_way(legacy: bool) -> None:
    description = described(saved(Net(), legacy))
    assert uses(description, f"{Net.__module__}.Net") == {"module"}
    assert uses(description, "torch.nn.modules.conv.Conv2d") == {"module"}
    assert uses(description, "torch._utils._rebuild_parameter") == {"call"}
    assert uses(description, "torch.FloatStorage") == {"storage"}


@FORMATS
@pytest.mark.parametrize("name", DTYPES)
def test_every_dtype_is_named_as_torch_names_it(name: str, legacy: bool) -> None:
    state = {"w": torch.ones(3).to(getattr(torch, name))}
    assert_same(saved(state, legacy), state)


def test_a_dtype_without_a_storage_class_is_seen_as_a_dtype() -> None:
    assert uses(described(saved({"w": torch.ones(2).to(torch.float8_e5m2)})), "torch.float8_e5m2") == {"dtype"}


@FORMATS
def test_views_parameters_scalars_and_empty_tensors_are_read(legacy: bool) -> None:
    whole = torch.arange(12.0)
    state = {
        "whole": whole,
        "slice": whole[4:8],
        "transposed": whole.reshape(3, 4).t(),
        "parameter": nn.Parameter(torch.ones(2)),
        "scalar": torch.tensor(7.0),
        "empty": torch.empty(0, 3),
    }
    description = assert_same(saved(state, legacy), state)
    seen = tensors(description)
    assert seen["whole"].storage == seen["slice"].storage == seen["transposed"].storage
    assert len(description.storages) == 4


@FORMATS
def test_tied_weights_keep_both_names_and_one_storage(legacy: bool) -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    description = assert_same(saved(model, legacy), model.state_dict())
    seen = tensors(description)
    assert seen["0.weight"] == seen["1.weight"]


@FORMATS
def test_a_layer_used_twice_keeps_both_names(legacy: bool) -> None:
    layer = nn.Linear(3, 3)
    model = nn.Sequential(layer, nn.ReLU(), layer)
    assert_same(saved(model, legacy), model.state_dict())


def odd(kind: str) -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # quantized tensors are deprecated
        if kind == "quantized":
            return torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8)
    return torch.eye(2).to_sparse() if kind == "sparse" else torch.ones(2, device="meta")


@FORMATS
@pytest.mark.parametrize("kind", ["sparse", "quantized", "meta"])
def test_other_kinds_of_tensor_are_refused_by_name(kind: str, legacy: bool) -> None:
    description = described(saved({"good": torch.ones(2), "odd": odd(kind)}, legacy))
    assert [(problem.code, problem.where) for problem in description.problems] == [("FM304", "odd")]
    assert list(tensors(description)) == ["good"]


@FORMATS
def test_a_lazily_conjugated_tensor_is_refused(legacy: bool) -> None:
    """Its numbers are not the ones in the file."""
    assert codes(described(saved({"w": torch.ones(2, dtype=torch.complex64).conj()}, legacy))) == ["FM304"]
    assert codes(described(saved({"w": torch.ones(2, dtype=torch.complex64).conj().imag}, legacy))) == ["FM304"]


def scripted(how: str) -> tuple[bytes, nn.Module]:
    net = Net().eval()
    out = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(net) if how == "scripted" else torch.jit.trace(net, torch.ones(1, 1, 5, 5)), out)
    return out.getvalue(), net


@pytest.mark.parametrize("how", ["scripted", "traced"])
def test_torchscript_gives_the_weights_under_their_names(how: str) -> None:
    body, net = scripted(how)
    description = described(body)
    assert (description.container, description.root, codes(description)) == ("torchscript", "script", [])
    expected = {**net.state_dict(), "scratch": net.scratch}
    seen = tensors(description)
    assert set(seen) == set(expected)
    for name, tensor in expected.items():
        assert (seen[name].shape, seen[name].dtype) == (tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))
    assert all(uses(description, use.name) == {"script"} for use in description.globals if use.name.startswith("__torch__."))


def test_a_script_that_uses_a_layer_twice_keeps_both_names() -> None:
    layer = nn.Linear(3, 3)
    out = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(nn.Sequential(layer, nn.ReLU(), layer)), out)
    assert sorted(tensors(described(out.getvalue()))) == ["0.bias", "0.weight", "2.bias", "2.weight"]


def test_a_program_saved_by_export_is_named() -> None:
    out = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(torch.export.export(nn.Linear(2, 2), (torch.ones(1, 2),)), out)
    description = described(out.getvalue())
    assert (description.container, description.foreign) == (None, "a torch.export archive (.pt2)")


@FORMATS
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_pickle_protocol_is_read(protocol: int, legacy: bool) -> None:
    out = io.BytesIO()
    state = Net().state_dict()
    torch.save(state, out, pickle_protocol=protocol, _use_new_zipfile_serialization=not legacy)
    assert_same(out.getvalue(), state)


@FORMATS
def test_a_twenty_thousand_tensor_file_is_described_whole(legacy: bool) -> None:
    shared = torch.zeros(20_000)
    description = described(saved({f"layer.{i}.weight": shared[i] for i in range(20_000)}, legacy))
    assert len(tensors(description)) == 20_000
    assert len(description.storages) == 1
