"""Tensors that are in no dict, list or module: whoever loads the file makes them all the same."""

from __future__ import annotations

import io
from argparse import Namespace

import builders as b
import pytest
import torch
from describing import described
from judging import findings
from torch import nn

from fifomark.core.findings import Level

WEIGHTS = b.ordered_dict((b.text("weight"), b.tensor("0", (10, 64))))
DATA = {"0": b.floats(640), "1": b.floats(10, 1)}
POP = b"0"
OUTSIDE = b.tensor("1", (11,), numel=10)
FAR = b.tensor("1", (2,), numel=10, offset=9)
WIDE = b.tensor("1", (2, 2), numel=10, stride=(9, 1))
SPARSE = b.call("torch._utils._rebuild_sparse_tensor", b.call("torch.serialization._get_layout", b.text("torch.sparse_coo")), b")")
NESTED = b.call("torch._utils._rebuild_nested_tensor", b.tensor("1", (10,)), b")", b")", b")")
QUANTIZED = b.call("torch._utils._rebuild_qtensor", b")")


def namespace(value: bytes) -> bytes:
    return b.new("argparse.Namespace") + b.dict_of((b.text("t"), value)) + b"b"


PLACES = {
    "in an object": lambda value: b.dict_of((b.text("args"), namespace(value)), (b.text("model"), WEIGHTS)),
    "in an object's object": lambda value: b.dict_of((b.text("args"), namespace(namespace(value))), (b.text("model"), WEIGHTS)),
    "dropped": lambda value: value + POP + WEIGHTS,
    "as a key": lambda value: b.dict_of((b.tuple_of(value), b"N"), (b.text("model"), WEIGHTS)),
    "beside the weights": lambda value: b.dict_of((b.text("best_loss"), value), (b.text("model"), WEIGHTS)),
    "in an optimizer": lambda value: b.dict_of((b.text("optimizer"), b.dict_of((b.text("exp_avg"), value))), (b.text("model"), WEIGHTS)),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("tensor", [OUTSIDE, FAR, WIDE], ids=["too long", "too far", "too wide"])
def test_a_tensor_that_reaches_outside_its_storage_is_told_wherever_it_is(place: str, tensor: bytes) -> None:
    body = b.archive(b.pickled(PLACES[place](tensor)), DATA)
    assert [f.level for f in findings(body) if f.code == "FM301"] == [Level.UNSAFE]
    with pytest.raises(RuntimeError):  # so no honest file has one
        torch.load(io.BytesIO(body), weights_only=False)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("tensor", [SPARSE, NESTED, QUANTIZED], ids=["sparse", "nested", "quantized"])
def test_a_tensor_of_a_kind_that_is_not_read_is_told_wherever_it_is(place: str, tensor: bytes) -> None:
    assert "FM304" in [f.code for f in findings(b.archive(b.pickled(PLACES[place](tensor)), DATA))]


def test_sparse_indices_that_lie_are_told_in_an_object_as_well() -> None:
    """What torch itself saves, with an index out of range: using it reads memory that is not its own."""
    sparse = torch.sparse_coo_tensor(torch.tensor([[999999]]), torch.tensor([1.0]), (2,), check_invariants=False)
    out = io.BytesIO()
    torch.save({"model": nn.Linear(3, 3).state_dict(), "args": Namespace(mask=sparse)}, out)
    assert "FM304" in [f.code for f in findings(out.getvalue())]


def test_an_honest_tensor_in_an_object_hides_no_bytes_and_refuses_nothing() -> None:
    out = io.BytesIO()
    torch.save({"model": nn.Linear(3, 3).state_dict(), "args": Namespace(mean=torch.rand(9), weight=nn.Parameter(torch.rand(2)))}, out)
    assert {f.code for f in findings(out.getvalue())} <= {"FM205", "FM206"}


def test_a_tensor_that_is_wrapped_is_one_tensor() -> None:
    model = nn.Linear(3, 3, bias=False)
    model.weight.extra = 1  # type: ignore[assignment]  # makes torch save it by _rebuild_parameter_with_state or _rebuild_from_type_v2
    out = io.BytesIO()
    torch.save(dict(model.named_parameters()), out)
    assert len(described(out.getvalue()).tensors) == 1


@pytest.mark.filterwarnings("ignore")
def test_the_tensors_of_a_scripts_constants_are_not_looked_for_among_its_weights() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(2, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.linear(x) + torch.tensor([1.0, 2.0])

    out = io.BytesIO()
    torch.jit.save(torch.jit.trace(Net(), torch.rand(1, 2)), out)
    found = findings(out.getvalue())
    assert not [f for f in found if f.level.rank >= Level.INVALID.rank]
