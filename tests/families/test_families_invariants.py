"""Tensors that do not fit each other are found by name, with the shape that was expected."""

from __future__ import annotations

import pytest

from fifomark.core.errors import CannotBuild
from fifomark.core.weights import TensorSpec
from fifomark.families import registry
from fifomark.families.checks import MOST
from fifomark.families.family import settle

Shapes = dict[str, tuple[int, ...]]

LOGISTIC: Shapes = {"fc.weight": (10, 64), "fc.bias": (10,)}
MLP: Shapes = {
    "fc1.weight": (32, 64), "fc1.bias": (32,), "bn.weight": (32,), "bn.bias": (32,), "bn.running_mean": (32,), "bn.running_var": (32,),
    "bn.num_batches_tracked": (), "fc2.weight": (16, 32), "fc3.weight": (10, 16),
}  # fmt: skip
CNN: Shapes = {
    "conv.weight": (8, 1, 3, 3), "conv.bias": (8,), "bn.weight": (8,), "bn.bias": (8,), "bn.running_mean": (8,), "bn.running_var": (8,),
    "fc.weight": (10, 72),
}  # fmt: skip
RNN: Shapes = {
    "lstm.weight_ih_l0": (64, 8), "lstm.weight_hh_l0": (64, 16), "lstm.bias_ih_l0": (64,), "lstm.bias_hh_l0": (64,), "fc.weight": (10, 16),
}  # fmt: skip
TRANSFORMER: Shapes = {
    "layers.0.self_attn.in_proj_weight": (48, 16), "layers.0.self_attn.in_proj_bias": (48,),
    "layers.0.self_attn.out_proj.weight": (16, 16), "layers.0.self_attn.out_proj.bias": (16,),
    "layers.0.linear1.weight": (32, 16), "layers.0.linear1.bias": (32,),
    "layers.0.linear2.weight": (16, 32), "layers.0.linear2.bias": (16,),
    "layers.0.norm1.weight": (16,), "layers.0.norm1.bias": (16,), "layers.0.norm2.weight": (16,), "layers.0.norm2.bias": (16,),
}  # fmt: skip
SOUND = {"logistic": LOGISTIC, "mlp": MLP, "cnn": CNN, "rnn": RNN, "transformer": TRANSFORMER}


def specs(shapes: Shapes, **dtypes: str) -> list[TensorSpec]:
    counted = {name: "int64" for name in shapes if name.endswith("num_batches_tracked")} | dtypes
    return [TensorSpec(name=name, dtype=counted.get(name, "float32"), shape=shape) for name, shape in shapes.items()]


@pytest.mark.parametrize("name", SOUND)
def test_a_sound_file_breaks_no_invariant(name: str) -> None:
    found = registry.family(name).evidence(specs(SOUND[name]))
    assert found
    assert registry.family(name).invariants(found) == []


@pytest.mark.parametrize(
    ("name", "tensor", "shape", "says"),
    [
        ("logistic", "fc.bias", (11,), "fc.bias (11,): expected (10,), one for each row of fc.weight (10, 64)"),
        ("mlp", "fc1.bias", (16,), "expected (32,)"),
        ("mlp", "bn.running_var", (31,), "expected (32,), as bn.weight (32,)"),
        ("mlp", "bn.num_batches_tracked", (1,), "expected ()"),
        ("mlp", "fc3.weight", (10, 17), "expected 16 columns, what fc2.weight (16, 32) gives"),
        ("cnn", "conv.bias", (9,), "expected (8,) or (1,)"),
        ("cnn", "bn.bias", (9,), "expected (8,)"),
        ("rnn", "lstm.weight_hh_l0", (63, 16), "expected rows of 1, 3 or 4 times the hidden size"),
        ("rnn", "lstm.weight_ih_l0", (60, 8), "expected (64, 8) in a lstm of 16"),
        ("rnn", "lstm.bias_hh_l0", (16,), "expected (64,)"),
        ("rnn", "fc.weight", (10, 17), "expected 16 columns"),
        ("transformer", "layers.0.self_attn.in_proj_weight", (47, 16), "expected (48, 16), three times as high as wide"),
        ("transformer", "layers.0.self_attn.out_proj.weight", (15, 16), "expected (16, 16)"),
        ("transformer", "layers.0.linear2.weight", (16, 31), "expected (16, 32)"),
        ("transformer", "layers.0.norm2.weight", (8,), "expected (16,)"),
        ("logistic", "fc.weight", (10, 0), "is empty"),
    ],
)
def test_a_broken_invariant_names_the_tensor_and_what_was_expected(name: str, tensor: str, shape: tuple[int, ...], says: str) -> None:
    family = registry.family(name)
    found = family.evidence(specs(SOUND[name] | {tensor: shape}))
    assert found
    findings = family.invariants(found)
    assert [finding.code for finding in findings] == ["FM505"] * len(findings)
    hit = next(finding for finding in findings if finding.where == tensor)
    assert says in hit.message


def test_a_missing_tensor_is_named() -> None:
    family = registry.family("rnn")
    found = family.evidence(specs({name: shape for name, shape in RNN.items() if name != "lstm.bias_hh_l0"}))
    assert found
    assert "bias_hh_l0 should stand beside it" in family.invariants(found)[0].message


def test_weights_that_are_no_floats_are_found() -> None:
    family = registry.family("logistic")
    found = family.evidence(specs(LOGISTIC, **{"fc.weight": "int8"}))
    assert found
    assert "holds int8" in family.invariants(found)[0].message


def test_a_batch_norm_as_long_as_no_layer_is_found() -> None:
    family = registry.family("cnn")
    found = family.evidence(specs(CNN | {name: (7,) for name in CNN if name.startswith("bn.")}))
    assert found
    assert [finding.where for finding in family.invariants(found)] == ["bn.weight"]


@pytest.mark.parametrize("name", SOUND)
def test_nothing_is_built_where_an_invariant_is_broken(name: str) -> None:
    family = registry.family(name)
    first = next(tensor for tensor in SOUND[name] if tensor.endswith("bias") or "bias_hh" in tensor)
    found = family.evidence(specs(SOUND[name] | {first: (1_000_003,)}))
    assert found
    declared = {"nhead": 2} if name == "transformer" else {"layers": [{"conv2d": 3}]} if name == "cnn" else {}
    with pytest.raises(CannotBuild) as e:
        family.build(found, settle(family, declared, "x")[0], (8, 8))
    assert first in {finding.where for finding in e.value.findings}


def test_a_file_of_broken_layers_gives_a_bounded_number_of_findings() -> None:
    many = {f"{at}.{key}": shape for at in range(500) for key, shape in (("weight", (8, 8)), ("bias", (7,)))}
    family = registry.family("mlp")
    found = family.evidence(specs(many))
    assert found
    assert len(family.invariants(found)) == MOST


@pytest.mark.parametrize(
    ("name", "shapes", "where", "says"),
    [
        ("rnn", {"i2h.weight": (16, 8), "h2h.weight": (12, 12), "out.weight": (3, 16)}, "h2h.weight", "expected 16 rows, as i2h.weight"),
        (
            "transformer",
            {"a.q.weight": (16, 16), "a.k.weight": (6, 16), "a.v.weight": (6, 16)},
            "a.k.weight",
            "expected as many rows as a.q.weight (16, 16), or a part of them",
        ),
    ],
)
def test_what_is_written_by_hand_must_fit_together_as_well(name: str, shapes: Shapes, where: str, says: str) -> None:
    family = registry.family(name)
    found = family.evidence(specs(shapes))
    assert found
    finding = next(finding for finding in family.invariants(found) if finding.where == where)
    assert says in finding.message
