"""torch's own rebuilders run what they are given in the place of a tensor: also where nobody looks for one."""

from __future__ import annotations

import io
from typing import Any

import builders as b
import pytest
import torch
from judging import findings
from torch import nn

from fifomark.core.findings import Level

WEIGHTS = b.ordered_dict((b.text("weight"), b.tensor("0", (10, 64))))
DATA = {"0": b.floats(640), "1": b.floats(10, 1)}
NONE, TRUE, FALSE, EMPTY = b"N", b"\x88", b"\x89", b"}"
HOOKS = b.call("collections.OrderedDict")
BY_TYPE, TENSOR = "torch._tensor._rebuild_from_type_v2", b.name("torch.Tensor")
TAG = "torch.jit._pickle.restore_type_tag"
RANGE = b.call("builtins.range", b.integer(10**13))
ONE = b.tensor("1", (10,))


def namespace(*pairs: tuple[bytes, bytes]) -> bytes:
    return b.new("argparse.Namespace") + b.dict_of(*pairs) + b"b"


def state(key: str, value: bytes) -> bytes:
    return b.dict_of((b.text(key), value))


def rebuilt(storage: bytes = b"", shape: bytes = b"", stride: bytes = b"") -> bytes:
    storage = storage or b.tuple_of(b.text("storage"), b.name("torch.FloatStorage"), b.text("1"), b.text("cpu"), b.integer(10)) + b"Q"
    shape, stride = shape or b.tuple_of(b.integer(10)), stride or b.tuple_of(b.integer(1))
    return b.call("torch._utils._rebuild_tensor_v2", storage, b.integer(0), shape, stride, FALSE, HOOKS)


def doubled(times: int) -> bytes:
    return b.text("x") + b"2\x86" * times  # DUP and TUPLE2


RECURRENT = {"num_layers": b.integer(10**13), "_parameters": EMPTY, "_buffers": EMPTY, "_modules": EMPTY, "_all_weights": b.list_of()}
UNSAFE = {
    "something else made a tensor of a chosen type": b.call(BY_TYPE, b.name(TAG), TENSOR, b.tuple_of(namespace(), b.text("x")), NONE),
    "a type that is no tensor's": b.call(
        BY_TYPE, b.name("torch._utils._rebuild_tensor_v2"), b.name("torch.nn.modules.linear.Linear"), b")", NONE
    ),
    "attributes that are asked whether they are there": b.call(
        BY_TYPE, b.name("torch._utils._rebuild_tensor_v2"), TENSOR, b")", namespace((b.text("x"), NONE))
    ),
    "a parameter of what only can detach": b.call("torch._utils._rebuild_parameter", namespace((b.text("detach"), TENSOR)), FALSE, HOOKS),
    "a tensor on something that is no storage": rebuilt(namespace()),
    "a tensor with the numbers of another": b.call(
        "torch._utils._rebuild_parameter_with_state", ONE, FALSE, HOOKS, state("data", b.tensor("0", (10,)))
    ),
    "numbers put into a tensor that is thrown away": ONE + b.integer(3) + b.integer(77) + b"s",
    "a stride that can be changed": rebuilt(stride=b.list_of(b.integer(1))),
    "a quantized tensor larger than its storage": b.call(
        "torch._utils._rebuild_qtensor",
        b.tuple_of(b.text("storage"), b.name("torch.QInt8Storage"), b.text("1"), b.text("cpu"), b.integer(40)) + b"Q",
        *(b.integer(0), b.tuple_of(b.integer(3 * 10**9)), b.tuple_of(b.integer(0))),
    ),
    "a range behind a tag": b.call("builtins.set", b.call(TAG, RANGE, b.text("x"))),
    "a range behind a list of numbers": b.call("collections.deque", b.call("torch.jit._pickle.build_intlist", RANGE)),
    "a deque of a tensor without end": b.call("collections.deque", ONE),
    "a set of a tuple that doubles": b.call("builtins.set", b.list_of(doubled(60))),
    "a key that doubles": HOOKS + doubled(60) + NONE + b"s",
    "a key of many tuples in one another": HOOKS + b")" + b"\x85" * 30_000 + NONE + b"s",
    "layers without end": b.new("torch.nn.modules.rnn.LSTM") + b.dict_of(*((b.text(k), v) for k, v in RECURRENT.items())) + b"b",
    "a class of a known package that tidies up": b.new("filelock._soft.SoftFileLock")
    + b.dict_of((b.text("_parameters"), EMPTY), (b.text("_modules"), EMPTY))
    + b"b",
}  # fmt: skip


def saved(value: bytes) -> bytes:
    return b.archive(b.pickled(b.dict_of((b.text("state_dict"), WEIGHTS), (b.text("x"), value))), DATA)


@pytest.mark.parametrize("hidden", [False, True], ids=["in a dict", "in a Namespace"])
@pytest.mark.parametrize("value", UNSAFE.values(), ids=UNSAFE)
def test_what_no_honest_file_gives_a_rebuilder_is_unsafe(value: bytes, hidden: bool) -> None:
    found = findings(saved(namespace((b.text("x"), value)) if hidden else value))
    assert any(f.level is Level.UNSAFE for f in found)


@pytest.mark.parametrize("place", [b.text("meta"), b.integer(3), namespace()], ids=["meta", "a number", "an object"])
def test_a_storage_that_torch_would_not_fill_is_refused(place: bytes) -> None:
    storage = b.tuple_of(b.text("storage"), b.name("torch.FloatStorage"), b.text("1"), place, b.integer(10)) + b"Q"
    assert next(f.code for f in findings(saved(rebuilt(storage))) if f.level.rank > Level.WARNING.rank) == "FM304"


def legacy_view(key: str, view: bytes) -> bytes:
    return b.tuple_of(b.text("storage"), b.name("torch.FloatStorage"), b.text(key), b.text("cpu"), b.integer(10), view) + b"Q"


def view(name: str, offset: int, size: int) -> bytes:
    return b.tuple_of(b.text(name), b.integer(offset), b.integer(size))


@pytest.mark.parametrize(
    ("one", "other", "refused"),
    [
        (view("v", 0, 4), view("w", 4, 4), False),
        (view("v", 0, 4), view("v", 0, 4), False),
        (view("v", 0, 4), view("v", 4, 4), True),
        (view("k", 4, 4), view("w", 0, 4), True),
    ],
    ids=["two views", "one twice", "two of one name", "the name of the whole"],
)
def test_two_legacy_views_of_one_name_are_ambiguous(one: bytes, other: bytes, refused: bool) -> None:
    four = b.tuple_of(b.integer(4))
    pairs = [(b.text(n), rebuilt(legacy_view("k", v), four)) for n, v in (("a.weight", one), ("b.weight", other))]
    body = b.legacy(b.pickled(b.ordered_dict(*pairs)), {"k": b.floats(10)})
    assert ("FM109" in {f.code for f in findings(body)}) is refused


class Loads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)

    @torch.jit.export
    def __getstate__(self) -> tuple[torch.Tensor, bool]:
        return self.layer.weight, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[torch.Tensor, bool]) -> None:
        self.training = state[1]


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
@pytest.mark.parametrize(("module", "unsafe"), [(Loads, True), (lambda: nn.Linear(3, 3), False)], ids=["with __setstate__", "plain"])
def test_a_script_that_runs_when_it_is_loaded_is_unsafe(module: Any, unsafe: bool) -> None:
    file = io.BytesIO()
    torch.jit.save(torch.jit.script(module()), file)
    assert any(f.level is Level.UNSAFE for f in findings(file.getvalue())) is unsafe


HONEST: dict[str, Any] = {
    "a parameter with an attribute": nn.Parameter(torch.ones(3)),
    "a buffer": nn.Buffer(torch.ones(3)),
    "keys that are tuples": {("a", 1, (2, 3)): 1, (("x", 0), 2.5): None},
    "an LSTM": nn.LSTM(3, 4, num_layers=3, bidirectional=True),
    "expanded, transposed and empty": [torch.ones(1).expand(3), torch.ones(2, 3).t(), torch.zeros(0, 3)],
}  # fmt: skip
HONEST["a parameter with an attribute"].note = "mine"


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("value", HONEST.values(), ids=HONEST)
def test_what_honest_files_give_them_passes(value: Any, protocol: int) -> None:
    file = io.BytesIO()
    torch.save({"state_dict": {"weight": torch.ones(2, 2)}, "x": value}, file, pickle_protocol=protocol)
    assert [f for f in findings(file.getvalue()) if f.level.rank > Level.WARNING.rank and f.code != "FM307"] == []
