"""Networks that have shapes, or a name, in common with another family: none is named for that alone."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from zoo.specimen import Specimen, linears, mlp, module

from fifomark.core.weights import FamilySeen
from fifomark.families import registry


def seen(made: nn.Module) -> FamilySeen:
    return registry.recognise(Specimen("", "", lambda: made).weights())


@pytest.mark.parametrize("inputs", [16, 32])
def test_a_perceptron_may_call_its_first_layer_as_a_recurrent_one(inputs: int) -> None:
    found = seen(module(i2h=nn.Linear(inputs, 32), h2o=nn.Linear(32, 3)))
    assert (found.name, found.alternatives) == ("mlp", ())


def test_a_layer_over_input_and_state_or_one_beside_that_of_the_state_is_recurrent() -> None:
    side_by_side = seen(module(i2h=nn.Linear(48, 32), h2o=nn.Linear(32, 3)))
    assert (side_by_side.name, side_by_side.alternatives) == ("rnn", ("mlp",))
    beside = seen(module(i2h=nn.Linear(16, 32), h2h=nn.Linear(32, 32), h2o=nn.Linear(32, 3)))
    assert (beside.name, beside.alternatives) == ("rnn", ("mlp",))


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (("message_fn", "update_fn"), "a graph network"),
        (("embed", "update"), "a gated layer"),
        (("embed", "update_gate"), "a gated layer"),
        (("forget", "remember"), "a gated layer"),
    ],
)
def test_one_word_for_a_gate_makes_no_recurrence(names: tuple[str, ...], says: str) -> None:
    found = seen(module(**{name: nn.Linear(16, 16) for name in names}, readout=nn.Linear(16, 1)))
    assert (found.name, found.alternatives) == ("unknown", ("mlp",))
    assert any(says in sentence for sentence in found.contradictions)


@pytest.mark.parametrize(
    "names",
    [
        ("reset_gate", "update_gate", "candidate"),
        ("W_reset", "W_update", "W_new"),
        ("forgetGate", "inputGate", "outputGate", "cellState"),
        ("forget", "in_gate", "out_gate", "memory"),
    ],
)
def test_all_gates_of_a_cell_make_one(names: tuple[str, ...]) -> None:
    found = seen(module(**{name: nn.Linear(24, 16) for name in names}, fc=nn.Linear(16, 3)))
    assert (found.name, found.contradictions) == ("rnn", ())


@pytest.mark.parametrize(
    "made",
    [
        module(b=nn.Bilinear(8, 8, 16), fc=nn.Linear(16, 3)),
        module(b=nn.Bilinear(9, 5, 16), fc=nn.Linear(16, 3)),
        module(one=nn.Bilinear(8, 8, 16), two=nn.Bilinear(8, 8, 16), fc=nn.Linear(32, 3)),
        module(pairs=[nn.Bilinear(8, 8, 16), nn.Bilinear(8, 8, 16)], fc=nn.Linear(32, 3)),
        nn.Bilinear(4, 4, 3),
    ],
)
def test_a_bilinear_layer_may_be_a_convolution_and_is_not_called_one(made: nn.Module) -> None:
    found = seen(made)
    assert (found.name, found.alternatives) == ("unknown", ("cnn",))
    assert any("may be a bilinear layer" in sentence for sentence in found.contradictions)


@pytest.mark.parametrize(
    "made",
    [
        module(conv=nn.Conv1d(8, 16, 8), fc=nn.Linear(16, 3)),
        module(c=nn.Conv1d(1, 16, 5), fc=nn.Linear(16, 3)),
        module(c=nn.Conv1d(3, 16, 3), fc=nn.Linear(160, 3)),
        module(c1=nn.Conv1d(3, 16, 3), c2=nn.Conv1d(16, 16, 3), fc=nn.Linear(16, 3)),
        nn.Sequential(nn.Conv1d(3, 16, 3), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(16, 3)),
    ],
)
def test_a_convolution_over_time_is_called_one(made: nn.Module) -> None:
    found = seen(made)
    assert (found.name, found.contradictions) == ("cnn", ())


def test_an_empty_one_is_no_bilinear_layer() -> None:
    found = seen(module(b=module(weight=torch.empty(0, 8, 8)), fc=nn.Linear(16, 3)))
    assert not any("bilinear" in sentence for sentence in found.contradictions)


@pytest.mark.parametrize("names", [("Wx", "Wh", "Wy"), ("W_x", "W_h", "W_y"), ("inp", "rec", "out"), ("inp", "reservoir", "readout")])
def test_a_recurrence_of_textbooks_is_called_one(names: tuple[str, str, str]) -> None:
    found = seen(textbook(*names))
    assert (found.name, found.alternatives) == ("rnn", ("mlp",))


@pytest.mark.parametrize("names", [("fc_x", "fc_h", "fc_y"), ("lin_x", "lin_h", "lin_y"), ("U", "W", "V"), ("W", "U", "V")])
def test_where_names_leave_it_open_recurrence_is_an_alternative(names: tuple[str, str, str]) -> None:
    found = seen(textbook(*names))
    assert (found.name, set(found.alternatives)) == ("unknown", {"mlp", "rnn"})
    assert any("of a recurrence?" in sentence for sentence in found.contradictions)


@pytest.mark.parametrize("names", [("U", "W", "V"), ("Wx", "Wh", "Wy"), ("fc_x", "fc_h", "fc_y")])
def test_the_same_names_on_layers_of_other_widths_are_a_perceptron(names: tuple[str, str, str]) -> None:
    first, second, third = names
    found = seen(module(**{first: nn.Linear(10, 32), second: nn.Linear(32, 24), third: nn.Linear(24, 5)}))
    assert (found.name, found.alternatives) == ("mlp", ())


def textbook(first: str, second: str, third: str) -> nn.Module:
    return module(**{first: nn.Linear(10, 32), second: nn.Linear(32, 32), third: nn.Linear(32, 5)})


@pytest.mark.parametrize(
    "made",
    [
        module(H=linears(16, 16, 16), T=linears(16, 16, 16), out=nn.Linear(16, 2)),
        module(models=linears(4, 4, 4, 4)),
        module(net=module(models=[mlp(4, 4, 4), mlp(4, 4, 4)])),
        module(trunk=nn.Linear(8, 8), head_a=nn.Linear(8, 8), head_b=nn.Linear(8, 8)),
        module(encoder=nn.Linear(8, 8), mu=nn.Linear(8, 8), logvar=nn.Linear(8, 8)),
        module(actor=mlp(8, 8, 8), critic=mlp(8, 8, 1)),
    ],
)
def test_square_layers_side_by_side_fit_in_a_chain_and_are_no_perceptron(made: nn.Module) -> None:
    found = seen(made)
    assert (found.name, found.alternatives) == ("unknown", ("mlp",))
    assert any("side by side" in sentence for sentence in found.contradictions)


@pytest.mark.parametrize(
    "made",
    [
        module(head=mlp(8, 8, 8, 2)),
        module(trunk=nn.Linear(8, 8), head1=nn.Linear(8, 6), head2=nn.Linear(6, 2)),
        module(models=linears(9, 8, 4)),
        module(h=nn.Linear(8, 8), out=nn.Linear(8, 2)),
        module(value=mlp(8, 8, 1)),
    ],
)
def test_one_head_or_those_of_other_widths_are_a_perceptron(made: nn.Module) -> None:
    found = seen(made)
    assert (found.name, found.contradictions) == ("mlp", ())
