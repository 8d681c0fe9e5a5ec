"""Facts are settled aloud, names are unique, and the room imports no torch."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from fifomark.core.errors import ConfigError, DeclarationMissing, UsageError
from fifomark.core.weights import TensorSpec
from fifomark.families import registry
from fifomark.families.family import settle
from fifomark.families.mlp import MLP

LAYERS = [{"conv2d": {"kernel": 3}}, {"relu": {}}, {"linear": {}}]


def specs(**shapes: tuple[int, ...]) -> list[TensorSpec]:
    return [TensorSpec(name=name.replace("__", "."), dtype="float32", shape=shape) for name, shape in shapes.items()]


def test_what_is_not_declared_is_assumed_aloud() -> None:
    values, assumed = settle(registry.family("rnn"), {"pooling": "mean"}, "rubric.toml")
    assert values == {"pooling": "mean", "batch_first": True, "nonlinearity": "tanh", "gate_order": "torch", "activation": "relu"}
    assert assumed == (
        "batch_first = true (not declared)",
        "nonlinearity = tanh (not declared)",
        "gate_order = torch (not declared)",
        "activation = relu (not declared)",
    )


def test_a_fact_that_changes_nothing_for_these_weights_is_not_reported() -> None:
    lstm = registry.match(specs(lstm__weight_ih_l0=(64, 8), lstm__weight_hh_l0=(64, 16)))
    plain = registry.match(specs(rnn__weight_ih_l0=(16, 8), rnn__weight_hh_l0=(16, 16)))
    family = registry.family("rnn")
    assert [sentence.split()[0] for sentence in settle(family, {}, "x", lstm)[1]] == ["batch_first", "pooling"]
    assert [sentence.split()[0] for sentence in settle(family, {}, "x", plain)[1]] == ["batch_first", "pooling", "nonlinearity"]
    assert settle(family, {}, "x", lstm)[0]["nonlinearity"] == "tanh"


@pytest.mark.parametrize(("family", "missing"), [("cnn", "layers"), ("transformer", "nhead")])
def test_what_has_no_default_must_be_declared(family: str, missing: str) -> None:
    with pytest.raises(DeclarationMissing) as e:
        settle(registry.family(family), {}, "rubric.toml")
    assert e.value.missing == (missing,)


@pytest.mark.parametrize(
    ("family", "declared", "says"),
    [
        ("mlp", {"activaton": "relu"}, "rubric.toml: activaton: is nothing that a mlp model can be told (did you mean 'activation'?)"),
        ("mlp", {"activation": "rellu"}, "rubric.toml: activation: 'rellu' is not allowed (did you mean 'relu'?)"),
        ("rnn", {"batch_first": 1}, "rubric.toml: batch_first: 1 is not allowed"),
        ("transformer", {"nhead": "4"}, "rubric.toml: nhead: must be a whole number from 1, found '4'"),
        ("transformer", {"nhead": True}, "nhead: must be a whole number"),
        ("cnn", {"layers": [{"conv2": 3}]}, "rubric.toml: layers[0]: 'conv2' is no layer (did you mean 'conv2d'?)"),
        ("cnn", {"layers": [{"conv2d": {"kernal": 3}}]}, "layers[0].conv2d.kernal: unknown option (did you mean 'kernel'?)"),
        ("cnn", {"layers": [{"relu": {}}, {"conv2d": {"padding": 1}}]}, "layers[1].conv2d.kernel: is missing"),
        ("cnn", {"layers": [{"conv2d": {"kernel": 0}}]}, "layers[0].conv2d.kernel: must be a whole number from 1"),
        ("cnn", {"layers": [{"conv2d": {"kernel": [3, 3, 3]}}]}, "layers[0].conv2d.kernel: must have 2 numbers"),
        ("cnn", {"layers": [{"conv2d": {"kernel": 3, "padding": "same", "stride": 2}}]}, '"same" needs stride 1'),
        ("cnn", {"layers": [{"conv2d": {"kernel": 3}, "relu": {}}]}, "layers[0]: "),
        ("cnn", {"layers": [{"relu": 1}]}, "layers[0].relu: takes no option, found 1"),
        ("cnn", {"layers": "conv2d"}, "layers: must be a list of layers"),
        ("cnn", {"layers": []}, "layers: must be a list of layers"),
    ],
)
def test_a_wrong_declaration_says_where_it_is_and_what_was_meant(family: str, declared: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as e:
        settle(registry.family(family), declared, "rubric.toml")
    assert says in str(e.value)


def test_the_value_of_layers_is_ready_for_build() -> None:
    values, assumed = settle(registry.family("cnn"), {"layers": LAYERS}, "rubric.toml")
    assert [(entry.name, entry.lane) for entry in values["layers"]] == [("conv2d", "conv"), ("relu", ""), ("linear", "linear")]
    assert values["layers"][0].options == {"kernel": 3, "stride": 1, "padding": 0, "dilation": 1, "groups": None}
    assert assumed == ()


def test_two_families_with_one_name_are_refused() -> None:
    with pytest.raises(UsageError, match="'mlp' cannot be added"):
        registry.registered((MLP(), MLP()))
    with pytest.raises(UsageError, match="did you mean 'transformer'"):
        registry.family("transfomer")


def test_two_families_that_fit_equally_well_are_both_named_and_none_is_chosen() -> None:
    class Twin(MLP):
        name = "twin"

    weights = specs(a__weight=(8, 4), b__weight=(2, 8))
    families = registry.registered((MLP(), Twin()))
    seen = registry.recognise(weights, families)
    assert seen.name == "unknown"
    assert seen.alternatives == ("mlp", "twin")
    assert registry.match(weights, families) is None


def test_recognising_needs_no_torch() -> None:
    script = """
import sys
from fifomark.core.weights import TensorSpec
from fifomark.families import registry
from fifomark.families.family import settle
found = registry.match([TensorSpec(name="fc.weight", dtype="float32", shape=(2, 3))])
settle(registry.family("cnn"), {"layers": [{"conv2d": 3}]}, "x")
assert found.family == "logistic"
assert registry.family("logistic").invariants(found) == []
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
