from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from fifomark.core.errors import CannotBuild, DeclarationMissing, UsageError
from fifomark.core.outcome import Refused
from fifomark.marking.model import Built, Material, build_model, rebuild
from fifomark.marking.rubric import load_rubric


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))


def test_parameters_are_counted_without_buffers(write_rubric) -> None:
    built = rebuild(Material(net().state_dict()), load_rubric(write_rubric()), "rubric.toml")
    assert isinstance(built, Built)
    assert built.parameters == 8 * 4 + 8 + 8 + 8 + 3 * 8 + 3
    assert not built.model.training


def test_tied_parameters_are_counted_once(write_rubric) -> None:
    shared = torch.randn(4, 4)
    weights = {"a.weight": shared, "a.bias": torch.zeros(4), "b.weight": shared, "b.bias": torch.zeros(4)}
    built = rebuild(
        Material(weights | {"c.weight": torch.randn(3, 4), "c.bias": torch.zeros(3)}), load_rubric(write_rubric()), "rubric.toml"
    )
    assert isinstance(built, Built)
    assert built.parameters == 16 + 4 + 4 + 12 + 3


@pytest.mark.parametrize(
    ("model", "code", "said"),
    [
        (nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(4, 3)), "FM503", "the task asks for logistic or mlp"),
        (nn.Sequential(nn.Linear(9, 8), nn.ReLU(), nn.Linear(8, 3)), "FM505", "takes 9 inputs"),
    ],
)
def test_a_model_of_another_task_is_told_what_was_seen_and_what_is_wanted(write_rubric, model: nn.Module, code: str, said: str) -> None:
    refused = rebuild(Material(model.state_dict()), load_rubric(write_rubric()), "rubric.toml")
    assert isinstance(refused, Refused)
    assert refused.findings[0].code == code
    assert said in refused.findings[0].message
    assert refused.findings[0].evidence


def test_the_size_of_a_flat_example_is_said_once(write_rubric) -> None:
    refused = rebuild(Material(nn.Linear(9, 3).state_dict()), load_rubric(write_rubric()), "rubric.toml")
    assert isinstance(refused, Refused)
    assert refused.findings[0].message.endswith("takes 9 inputs, but one example has 4")
    square = load_rubric(write_rubric(changes={"shape = [4]": "shape = [2, 2]"}, x=np.zeros((30, 2, 2), np.float32)))
    refused = rebuild(Material(nn.Linear(9, 3).state_dict()), square, "rubric.toml")
    assert isinstance(refused, Refused)
    assert refused.findings[0].message.endswith("takes 9 inputs, but one example has 4 (2 × 2)")


def test_what_cannot_be_built_is_said_once_and_what_its_submitter_can_do_beside_it(write_rubric) -> None:
    rubric = load_rubric(write_rubric())
    slopes = nn.Sequential(nn.Linear(4, 8), nn.PReLU(8), nn.Linear(8, 3)).state_dict()
    refused = rebuild(Material(slopes), rubric, "rubric.toml")
    assert isinstance(refused, Refused)
    (finding,) = refused.findings
    assert (finding.code, finding.message) == ("FM504", "this mlp model cannot be built: nothing says what 1.weight (8,) is for")
    assert finding.advice.startswith("Leave it out, or ask whoever runs the marking to name a factory in the rubric: ")


def test_weights_of_no_known_kind_are_told_what_is_there(write_rubric) -> None:
    refused = rebuild(Material({"alpha": torch.zeros(3), "beta": torch.zeros(2)}), load_rubric(write_rubric()), "rubric.toml")
    assert isinstance(refused, Refused)
    assert refused.findings[0].code == "FM504"
    assert "alpha" in str(refused.findings[0].evidence)


def test_too_many_parameters_are_refused(write_rubric) -> None:
    rubric = load_rubric(write_rubric(changes={"[input]": "max_parameters = 50\n[input]"}))
    refused = rebuild(Material(net().state_dict()), rubric, "rubric.toml")
    assert isinstance(refused, Refused)
    assert refused.findings[0].code == "FM506"
    assert "83 parameters" in refused.findings[0].message


def test_a_model_is_built_from_its_weights_alone_where_they_say_enough() -> None:
    original = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3)).eval()
    model = build_model(original.state_dict(), {"activation": "tanh"})
    x = torch.randn(5, 4)
    assert torch.equal(model(x), original(x))


def test_a_model_that_needs_more_says_so() -> None:
    cnn = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(144, 3)).state_dict()
    with pytest.raises(UsageError, match="input_shape"):
        build_model(cnn, {"layers": [{"conv2d": 3}, "flatten", "linear"]})
    with pytest.raises(DeclarationMissing, match="layers"):
        build_model(cnn, {}, (1, 8, 8))
    with pytest.raises(CannotBuild, match="alpha"):
        build_model({"alpha": torch.zeros(3)}, {})
