"""Weights go in strictly, and what does not fit is said so that it can be mended."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from fifomark.core.findings import Finding
from fifomark.marking.filling import cast, compare, fill


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))


class LeNet(nn.Module):
    def __init__(self, last: str = "out") -> None:
        super().__init__()
        self.conv, self.fc1, self.fc2 = nn.Conv2d(1, 6, 5), nn.Linear(120, 84), nn.Linear(84, 84)
        setattr(self, last, nn.Linear(84, 10))


def told(model: nn.Module, weights: dict[str, Tensor]) -> list[str]:
    return [finding.message for finding in fill(model, weights, "the rubric")]


def test_weights_that_fit_are_copied_and_widened_to_what_the_model_has() -> None:
    model, weights = net(), net().half().state_dict()
    assert fill(model, weights) == []
    assert {t.dtype for t in model.parameters()} == {torch.float32}
    assert torch.equal(model.state_dict()["0.weight"], weights["0.weight"].float())


def test_doubles_keep_their_digits_where_the_model_computes_in_double() -> None:
    weights = net().double().state_dict()
    model = cast(net(), torch.float64)
    assert fill(model, weights) == []
    assert torch.equal(model.state_dict()["0.weight"], weights["0.weight"])


def test_complex_numbers_stay_complex_in_every_precision() -> None:
    model = nn.ParameterDict({"a": nn.Parameter(torch.ones(2, dtype=torch.complex64)), "b": nn.Parameter(torch.ones(2))})
    assert [t.dtype for t in cast(model, torch.float64).values()] == [torch.complex128, torch.float64]
    assert [t.dtype for t in cast(model, torch.bfloat16).values()] == [torch.complex64, torch.bfloat16]
    assert fill(model, {"a": torch.tensor([1j, 2j]), "b": torch.ones(2)}) == []
    assert len(fill(model, {"a": torch.ones(2), "b": torch.tensor([1j, 2j])})) == 2


@pytest.mark.parametrize(
    ("tensor", "said"),
    [
        (torch.zeros(8, 5), "you have 0.weight (8, 5), the rubric wants 0.weight (8, 4)"),
        (torch.zeros(8, 4, dtype=torch.complex64), "0.weight (8, 4) holds complex64, the rubric wants float32"),
        (torch.zeros(8, 4, dtype=torch.int64), "0.weight (8, 4) holds int64, the rubric wants float32"),
    ],
)
def test_what_torch_would_bend_into_place_is_refused(tensor: Tensor, said: str) -> None:
    (finding,) = fill(net(), net().state_dict() | {"0.weight": tensor}, "the rubric")
    assert (finding.code, finding.where, finding.message) == ("FM502", "0.weight", said)


def test_numbers_that_torch_cannot_copy_are_refused_and_not_our_failure() -> None:
    packed = torch.zeros(8, 4, dtype=torch.uint8).view(torch.float4_e2m1fn_x2)
    assert told(net(), net().state_dict() | {"0.weight": packed}) == ["0.weight (8, 4) holds float4_e2m1fn_x2, the rubric wants float32"]


@pytest.mark.parametrize(("dtype", "fits"), [(torch.int32, True), (torch.bool, False), (torch.int64, True), (torch.float32, False)])
def test_a_counter_takes_whole_numbers_that_it_can_hold(dtype: torch.dtype, fits: bool) -> None:
    weights = net().state_dict() | {"1.num_batches_tracked": torch.tensor(1).to(dtype)}
    assert (fill(net(), weights) == []) is fits


def test_whole_numbers_are_never_cut_to_fit() -> None:
    model = nn.Module()
    model.register_buffer("ids", torch.zeros(2, dtype=torch.int32))
    assert told(model, {"ids": torch.tensor([1, 1 << 40])}) == ["ids (2,) holds int64, the rubric wants int32"]


def test_a_renamed_layer_is_told_by_its_shape() -> None:
    assert told(LeNet(), LeNet("fc3").state_dict()) == ["2 names begin with 'fc3.' where the rubric wants 'out.': "
                                                        "you have fc3.weight (10, 84), the rubric wants out.weight (10, 84)"]  # fmt: skip


def test_a_renamed_tensor_is_told_with_both_names_and_both_shapes() -> None:
    weights = LeNet().state_dict()
    weights["fc3.weight"] = weights.pop("out.weight")
    weights["out.gain"] = weights.pop("out.bias")[:9]
    assert told(LeNet(), weights) == [
        "you have fc3.weight (10, 84), the rubric wants out.weight (10, 84)",
        "out.bias (10,) is missing: the rubric wants it",
        "out.gain (9,) is not expected: the rubric has no such tensor",
    ]


def test_a_misspelt_name_is_found_although_the_shape_differs_too() -> None:
    weights = LeNet().state_dict()
    weights["otu.weight"] = weights.pop("out.weight")[:9]
    assert told(LeNet(), weights) == ["you have otu.weight (9, 84), the rubric wants out.weight (10, 84)"]


@pytest.mark.parametrize(
    ("prefix", "wrap", "said"),
    [
        ("net.", "", "8 names begin with 'net.', which the rubric does not want: you have net.conv.weight (6, 1, 5, 5), "),
        ("", "net.", "8 names lack the 'net.' that the rubric wants before them: you have conv.weight (6, 1, 5, 5), "),
        ("a.b.", "net.b.", "8 names begin with 'a.' where the rubric wants 'net.': you have a.b.conv.weight (6, 1, 5, 5), "),
    ],
)
def test_a_prefix_that_all_names_have_is_said_once_with_what_to_do(prefix: str, wrap: str, said: str) -> None:
    model: nn.Module = LeNet()
    for name in reversed([name for name in wrap.split(".") if name]):
        model = nn.ModuleDict({name: model})
    (finding,) = fill(model, {f"{prefix}{name}": t for name, t in LeNet().state_dict().items()}, "the rubric")
    assert finding.message.startswith(said)
    assert "for name, t in model.state_dict().items()}" in finding.advice


def test_one_tensor_too_much_does_not_hide_the_prefix() -> None:
    weights = {f"net.{name}": t for name, t in LeNet().state_dict().items()} | {"criterion.weight": torch.ones(10)}
    assert len(told(LeNet(), weights)) == 2
    assert told(LeNet(), weights)[1] == "criterion.weight (10,) is not expected: the rubric has no such tensor"


def test_the_advice_for_a_prefix_is_code_that_works() -> None:
    model = nn.ModuleDict({"net": LeNet()})
    (finding,) = fill(nn.ModuleDict({"body": LeNet()}), model.state_dict())
    code = finding.advice.partition("before you save: ")[2].rstrip(".")
    assert fill(nn.ModuleDict({"body": LeNet()}), eval(code, {"model": model})) == []


def test_a_hundred_thousand_strange_keys_are_answered_with_a_few_findings() -> None:
    def bounded(findings: list[Finding]) -> None:
        assert len(findings) == 20
        assert "tensors do not fit" in findings[-1].message

    bounded(fill(net(), {f"{'x' * 1000}{i}": torch.zeros(1) for i in range(100_000)}))
    bounded(fill(net(), {f"{i}.weight": torch.zeros(8) for i in range(10, 20_000)}))
    many = nn.ParameterList([torch.zeros(2) for _ in range(500)])
    bounded(fill(many, {f"x{i}": torch.zeros(3) for i in range(500)}))


def test_comparing_with_an_outline_says_the_same_and_takes_no_memory() -> None:
    with torch.device("meta"):
        outline = LeNet()
    weights = LeNet("fc3").state_dict()
    assert compare(outline, weights, "the rubric") == fill(LeNet(), weights, "the rubric")
    assert compare(outline, LeNet().state_dict(), "the rubric") == []
    assert all(tensor.is_meta for tensor in outline.state_dict().values())


def test_a_counter_from_before_torch_knew_it_may_be_missing() -> None:
    weights = net().state_dict()
    del weights["1.num_batches_tracked"]
    with torch.device("meta"):
        outline = net()
    assert compare(outline, dict(weights), "x") == []
    assert fill(net(), dict(weights)) == []


def test_a_lazy_layer_takes_its_shape_from_the_file() -> None:
    model = nn.Sequential(nn.LazyLinear(3))
    assert fill(model, nn.Sequential(nn.Linear(7, 3)).state_dict()) == []
    assert model[0].weight.shape == (3, 7)
