"""Pickled modules of torch's own layers are built again from their description, and compute what they computed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from msgspec.structs import replace
from submitting import evaluated, material, outcome_of, refused, whole
from torch import nn
from torch.nn.utils import parametrizations, prune

from fifomark.core.errors import ConfigError
from fifomark.core.layers import Layer
from fifomark.families.layers import BY_NAME
from fifomark.families.stock import COMPOSED, LEAVES
from fifomark.marking.evaluation import Bench
from fifomark.marking.rubric import load_rubric
from fifomark.marking.trees import CannotRebuild, plant


@pytest.fixture
def rubric(write_rubric: Callable[..., Path]) -> Path:
    return write_rubric(changes={'families = ["logistic", "mlp"]': "trees = true"})


def encoder(**options: object) -> nn.TransformerEncoderLayer:
    return nn.TransformerEncoderLayer(8, 2, 16, **{"batch_first": True} | options)  # type: ignore[arg-type]


IMAGE, STEPS, ROW, IDS = torch.randn(3, 4, 8, 8), torch.randn(3, 5, 8), torch.randn(3, 8), torch.randint(0, 9, (3, 5))
# Each with an option that is not torch's default, and that changes what comes out.
LAYERS = [
    (nn.Linear(8, 3, bias=False), ROW),
    (nn.Conv2d(4, 6, (3, 2), stride=2, padding=1, dilation=2, groups=2, padding_mode="reflect"), IMAGE),
    (nn.Conv2d(4, 4, 3, padding="same", padding_mode="circular", bias=False), IMAGE),
    (nn.Conv1d(5, 2, 3, padding=2), STEPS),
    (nn.ConvTranspose2d(4, 6, 3, stride=3, padding=1, output_padding=2, groups=2), IMAGE),
    (nn.BatchNorm2d(4, eps=0.5, affine=False), IMAGE),
    (nn.BatchNorm2d(4, track_running_stats=False), IMAGE),
    (nn.InstanceNorm2d(4, affine=True), IMAGE),
    (nn.LayerNorm((8, 8), eps=0.3), IMAGE),
    (nn.LayerNorm(8, bias=False), ROW),
    (nn.LayerNorm(8, elementwise_affine=False), ROW),
    (nn.GroupNorm(2, 4, eps=0.4), IMAGE),
    (nn.RMSNorm(8, eps=0.2), ROW),
    (nn.LocalResponseNorm(3, alpha=0.5), IMAGE),
    (nn.MaxPool2d((3, 2), stride=1, padding=1, ceil_mode=True), IMAGE),
    (nn.AvgPool2d(3, 2, padding=1, count_include_pad=False, divisor_override=7), IMAGE),
    (nn.AvgPool1d(2, padding=1), STEPS),
    (nn.AdaptiveAvgPool2d((None, 3)), IMAGE),
    (nn.AdaptiveMaxPool2d(2), IMAGE),
    (nn.LPPool2d(3, 2), IMAGE.abs()),
    (nn.GELU("tanh"), ROW),
    (nn.LeakyReLU(0.3), ROW),
    (nn.ELU(0.2), ROW),
    (nn.Hardtanh(-0.1, 0.7), ROW),
    (nn.ReLU6(), ROW * 9),
    (nn.Softplus(3.0, 0.1), ROW),
    (nn.Threshold(0.1, 20), ROW),
    (nn.PReLU(4), IMAGE),
    (nn.RReLU(0.1, 0.9), ROW),
    (nn.Softmax(dim=2), STEPS),
    (nn.GLU(1), IMAGE),
    (nn.Flatten(2), IMAGE),
    (nn.Unflatten(1, (2, -1)), ROW),
    (nn.Dropout(0.9), ROW),
    (nn.ChannelShuffle(2), IMAGE),
    (nn.PixelShuffle(2), IMAGE),
    (nn.PixelUnshuffle(2), IMAGE),
    (nn.Unfold(3, padding=1), IMAGE),
    (nn.Fold((4, 5), (2, 2)), torch.randn(3, 8, 12)),
    (nn.ZeroPad2d((1, 0, 2, -1)), IMAGE),
    (nn.ConstantPad2d(2, 0.5), IMAGE),
    (nn.ReplicationPad2d(1), IMAGE),
    (nn.Upsample(scale_factor=1.5, mode="bilinear", align_corners=True), IMAGE),
    (nn.Upsample((5, 4)), IMAGE),
    (nn.UpsamplingBilinear2d(scale_factor=2), IMAGE),
    (nn.Embedding(9, 4, padding_idx=0), IDS),
    (nn.EmbeddingBag(9, 4, mode="max"), IDS),
    (nn.GRUCell(8, 3), ROW),
    (nn.RNNCell(8, 3, bias=False, nonlinearity="relu"), ROW),
    (encoder(norm_first=True, activation="gelu", layer_norm_eps=0.1, dropout=0.4), STEPS),
    (encoder(batch_first=False, bias=False), STEPS),
    (encoder(activation=nn.ELU(0.2)), STEPS),
    (nn.TransformerEncoder(encoder(), 2, norm=nn.LayerNorm(8, eps=0.1)), STEPS),
    (nn.TransformerEncoder(encoder(batch_first=False, norm_first=True), 2, enable_nested_tensor=False), STEPS),
    (nn.Sequential(nn.Sequential(nn.Linear(8, 4), nn.Tanh()), nn.Sequential(), nn.Linear(4, 3)), ROW),
]


def scrambled(model: nn.Module) -> nn.Module:
    """With numbers that no constructor puts there, statistics included."""
    with torch.no_grad():
        for tensor in model.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(torch.rand_like(tensor) + 0.1)
    return model.eval()


def rebuilt(model: nn.Module, folder: Path) -> nn.Module:
    given = material(model, folder)
    made = plant(given.layers, given.weights, torch.float32)
    assert isinstance(made, nn.Module), made
    return made


def test_every_layer_computes_what_it_computed(tmp_path: Path) -> None:
    """In one file, since it is the file that costs the time."""
    torch.manual_seed(0)
    models = [scrambled(model) for model, _ in LAYERS]
    made = rebuilt(nn.Sequential(*models), tmp_path)
    for i, (ours, (model, x)) in enumerate(zip(made.children(), LAYERS, strict=True)):
        assert torch.equal(ours(x), model(x)), (i, model)
    assert {type(module) for model in models for module in model.modules()} >= {type(module) for module in made.modules()}


def test_every_layer_of_the_table_is_one_of_torchs_and_takes_what_it_says() -> None:
    """A misspelt argument would be told to a submitter as a fault of the file."""
    from inspect import signature

    for cls, rule in LEAVES.items():
        made = getattr(nn, cls.rpartition(".")[2])
        assert f"{made.__module__}.{made.__qualname__}" == cls
        known = signature(made).parameters
        assert set(rule.takes) | ({"bias"} if rule.bias else set()) <= set(known) or "args" in known, cls
    assert all(cls.startswith("torch.nn.modules.") for cls in COMPOSED)


def test_a_model_is_marked_as_the_script_that_saved_it_would_mark_it(rubric: Path) -> None:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(4, 8), nn.Softsign(), nn.Linear(8, 3, bias=False)).eval()
    evaluation = evaluated(whole(model, rubric))
    examples = load_examples(rubric)
    assert evaluation.metrics[0].value == float((model(examples[0]).argmax(1) == examples[1]).double().mean())
    assert evaluation.source == "tree"
    assert evaluated(whole({"epoch": 3, "model": model}, rubric)).metrics == evaluation.metrics
    assert evaluated(whole(nn.DataParallel(model), rubric)).metrics == evaluation.metrics


def load_examples(rubric: Path) -> tuple[torch.Tensor, torch.Tensor]:
    import numpy as np

    arrays = np.load(rubric / "toy.npz")
    return torch.from_numpy(arrays["x"]), torch.from_numpy(arrays["y"])


class Own(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raise AssertionError("code of a submission was run")


def hooked() -> nn.Module:
    model = nn.Sequential(nn.Linear(4, 3))
    model[0].forward = nn.functional.relu  # type: ignore[method-assign, assignment]
    return model


def changed(name: str, value: object, of: str = "0") -> nn.Module:
    model = nn.Sequential(encoder(), nn.ReLU6())
    setattr(model.get_submodule(of), name, value)
    return model


def normed() -> nn.Module:
    with pytest.warns(FutureWarning, match="weight_norm"):
        return nn.utils.weight_norm(nn.Linear(4, 3))


def pruned() -> nn.Module:
    model = nn.Sequential(nn.Linear(4, 3))
    prune.random_unstructured(model[0], "weight", amount=1)
    return model


@pytest.mark.parametrize(
    ("model", "where", "said"),
    [
        (Own(), "model", "the model (test_trees.Own) is none of the layers that are known here, and code of its own is never run"),
        (nn.Sequential(nn.Linear(4, 3), Own()), "1", "layer 1 (test_trees.Own) is none of the layers that are known here"),
        (nn.Sequential(nn.LSTM(4, 3)), "0", "layer 0 (torch.nn.LSTM) cannot stand alone or in a Sequential: it gives its outputs"),
        (nn.Sequential(nn.MultiheadAttention(4, 2)), "0", "it takes query, key and value, and a Sequential hands on one tensor"),
        (nn.ModuleList([nn.Linear(4, 3)]), "model", "it holds layers, and the code that runs them is not in the file"),
        (nn.Sequential(nn.Linear(4, 3), nn.MaxPool1d(2, return_indices=True)), "1", "has return_indices = True, expected False"),
        (nn.Sequential(nn.Embedding(4, 3, max_norm=1.0)), "0", "has max_norm = 1.0, expected None"),
        (nn.Sequential(nn.Linear(4, 3), nn.Upsample(scale_factor=1e6)), "1", "has scale_factor = 1000000.0, which is not taken"),
        (nn.Sequential(nn.Linear(4, 3), nn.AdaptiveAvgPool1d(10**9)), "1", "has output_size = 1000000000, which is not taken"),
        (changed("eps", 0.5, "0.norm2"), "0.norm2", "layer 0.norm2 (torch.nn.LayerNorm) has eps = 0.5, where torch's own has 1e-05"),
        (changed("max_val", 8.0, "1"), "1", "layer 1 (torch.nn.ReLU6) has max_val = 8.0, expected 6"),
        (changed("num_heads", 3, "0.self_attn"), "0", "torch makes no layer 0 (torch.nn.TransformerEncoderLayer)"),
        (changed("extra", nn.Linear(2, 2)), "0", "it has a part called 'extra', as torch's own has not"),
        (changed("norm2", nn.Identity()), "0.norm2", "layer 0.norm2 (torch.nn.Identity) is not the layer that torch puts there"),
        (hooked(), "0", "layer 0 (torch.nn.Linear) has hooks, or another function in the place of its own"),
        (pruned(), "0", "layer 0 (torch.nn.Linear) has hooks"),
        (normed(), "model", "the model (torch.nn.Linear) has hooks"),
    ],
)  # fmt: skip
def test_what_cannot_be_rebuilt_says_which_layer_and_why(tmp_path: Path, model: nn.Module, where: str, said: str) -> None:
    given = material(model, tmp_path)
    with pytest.raises(CannotRebuild) as e:
        plant(given.layers, given.weights, torch.float32)
    assert (e.value.path or "model", said in str(e.value)) == (where, True), e.value
    assert e.value.advice.endswith(".")


def test_a_refusal_names_the_layer_and_what_to_do(rubric: Path) -> None:
    ((code, message),) = refused(whole(nn.Sequential(nn.Linear(4, 3), nn.LSTM(3, 3)), rubric))
    assert code == "FM504"
    assert message.startswith("this model cannot be rebuilt from its description: layer 1 (torch.nn.LSTM)")


def test_weights_alone_are_told_that_the_task_takes_whole_models(rubric: Path) -> None:
    ((code, message),) = refused(outcome_of(nn.Linear(4, 3), rubric, form="state_dict"))
    assert (code, message) == ("FM504", "a file of weights does not tell how a model computes, and the task takes whole models")


def test_weights_that_are_not_those_of_the_layers_are_told_by_name_and_shape(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(4, 3))
    model[0].in_features = 5
    given = material(model, tmp_path)
    (finding,) = plant(given.layers, given.weights, torch.float32)  # type: ignore[misc]
    assert finding.message == "you have 0.weight (3, 4), the description of its layers wants 0.weight (3, 5)"


CONV = "torch.nn.modules.conv.Conv3d"
LINEAR = "torch.nn.modules.linear.Linear"
SEQUENTIAL = "torch.nn.modules.container.Sequential"


@pytest.mark.parametrize(
    "layers",
    [
        (),
        [Layer(path="0", cls=LINEAR)],
        [Layer(path="", cls=SEQUENTIAL), Layer(path="0", cls=LINEAR), Layer(path="0", cls=LINEAR)],
        [Layer(path="", cls=SEQUENTIAL), Layer(path="0.0", cls=LINEAR), Layer(path="0", cls=LINEAR)],
        [Layer(path="", cls=SEQUENTIAL), Layer(path="forward", cls="torch.nn.modules.activation.ReLU")],
        [Layer(path="", cls=LINEAR)],
        [Layer(path="", cls=LINEAR, attributes={"in_features": True, "out_features": 3})],
        [Layer(path="", cls=LINEAR, attributes={"in_features": 1 << 62, "out_features": 3})],
        [Layer(path="", cls=CONV, attributes={"in_channels": 1 << 24, "out_channels": 1 << 24, "kernel_size": [4096] * 3})],
        [Layer(path="", cls="torch.nn.modules.flatten.Unflatten", attributes={"dim": "N", "unflattened_size": [["a", 1]]})],
        [Layer(path="", cls="os.system")],
        [Layer(path="", cls="torch.nn.modules.transformer.TransformerEncoder"), Layer(path="layers", cls=SEQUENTIAL)],
        [Layer(path="", cls="torch.nn.modules.transformer.TransformerEncoderLayer", attributes={"activation": "os.system"})],
    ],
)  # fmt: skip
def test_a_description_that_no_module_has_is_no_crash(layers: list[Layer]) -> None:
    """The parser that it comes from read hostile bytes."""
    with pytest.raises(CannotRebuild):
        plant(layers, {"weight": torch.zeros(3, 4)}, torch.float32)


def test_a_layer_that_claims_to_be_huge_takes_no_memory() -> None:
    layer = Layer(path="", cls=LINEAR, attributes={"in_features": 1 << 24, "out_features": 1 << 24})
    (finding, _) = plant([layer], {"weight": torch.zeros(3, 4), "bias": torch.zeros(3)}, torch.float32)  # type: ignore[misc]
    assert "(16777216, 16777216)" in finding.message


def test_parametrized_layers_are_no_layers_that_are_known(tmp_path: Path) -> None:
    """torch itself pickles none; a file that names such a class is somebody's own."""
    with pytest.raises(RuntimeError, match="state_dict"):
        torch.save(parametrizations.weight_norm(nn.Linear(4, 3)), tmp_path / "x.pt")


# What crosses from the sanitizer


def test_only_what_tells_how_a_layer_computes_crosses(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
    model[0].note = "x" * 200
    layers = material(model, tmp_path).layers
    assert layers == (
        Layer(path="", cls=SEQUENTIAL),
        Layer(path="0", cls=LINEAR, attributes={"in_features": 4, "out_features": 3}),
        Layer(path="1", cls="torch.nn.modules.activation.ReLU", attributes={"inplace": False}),
    )


def test_of_a_module_with_code_of_its_own_only_what_is_not_torchs_crosses(tmp_path: Path) -> None:
    layers = material(nn.Sequential(*(Own() for _ in range(20)), nn.Linear(4, 3)), tmp_path).layers
    assert [(layer.cls, layer.path, layer.attributes) for layer in layers] == [("test_trees.Own", str(i), {}) for i in range(5)]


def test_a_tree_that_is_too_large_for_a_ticket_stays_behind(tmp_path: Path, rubric: Path) -> None:
    deep = nn.Sequential(nn.Linear(4, 3), *(nn.ReLU() for _ in range(2001)))
    assert material(deep, tmp_path).layers == ()
    assert "its layers are too many" in refused(whole(deep, rubric))[0][1]


def test_the_right_tree_of_several_is_taken(tmp_path: Path) -> None:
    layers = material({"ema": nn.Sequential(nn.Tanh(), nn.Linear(4, 3)), "model": nn.Sequential(nn.Linear(4, 3))}, tmp_path).layers
    assert [layer.cls.rpartition(".")[2] for layer in layers] == ["Sequential", "Linear"]


# The order of the sources


def test_a_family_that_is_declared_goes_before_the_tree(write_rubric: Callable[..., Path]) -> None:
    """The same weights get the same mark in whatever form they come: what the rubric declares stands."""
    folder = write_rubric("[model.mlp]\nactivation = 'relu'", changes={"[input]": "trees = true\n[input]"})
    evaluation = evaluated(whole(nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3)), folder))
    assert (evaluation.source, evaluation.declared) == ("family mlp", {"activation": "relu"})


def test_a_family_that_nothing_is_declared_of_is_built_by_its_tree(write_rubric: Callable[..., Path]) -> None:
    changes = {'families = ["logistic", "mlp"]': 'families = ["cnn"]\ntrees = true', "shape = [4]": "shape = [1, 2, 2]"}
    folder = write_rubric(changes=changes, x=torch.randn(30, 1, 2, 2).numpy())
    cnn = nn.Sequential(nn.Conv2d(1, 4, 2), nn.Softsign(), nn.Flatten(), nn.Linear(4, 3))
    assert evaluated(whole(cnn, folder)).source == "tree"
    ((code, message),) = refused(outcome_of(cnn, folder, form="state_dict"))
    assert (code, message) == ("FM504", "the task does not say layers of a cnn model, and a file of weights cannot tell it")
    assert [code for code, _ in refused(whole(nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), folder))] == ["FM503"]


def test_what_no_family_recognises_is_built_by_its_tree(write_rubric: Callable[..., Path]) -> None:
    folder = write_rubric(changes={"[input]": "trees = true\n[input]"})
    mixture = nn.Sequential(nn.Unflatten(1, (1, 4)), nn.Conv1d(1, 40, 4), nn.Flatten(), nn.GRUCell(40, 1), nn.Linear(1, 3))
    assert evaluated(whole(mixture, folder)).source == "tree"


def test_trees_without_modules_are_a_contradiction(write_rubric: Callable[..., Path]) -> None:
    folder = write_rubric("[submission]\naccept = ['state_dict']", changes={'families = ["logistic", "mlp"]': "trees = true"})
    with pytest.raises(ConfigError, match=r"model\.trees: needs pickled modules"):
        load_rubric(folder)


def test_half_and_double_are_marked_in_the_rubrics_precision(rubric: Path) -> None:
    torch.manual_seed(2)
    model = nn.Sequential(nn.Linear(4, 3))
    assert evaluated(whole(model.double(), rubric)).metrics == evaluated(whole(model.float(), rubric)).metrics
    given = material(model.half(), rubric)
    made = plant(given.layers, given.weights, torch.float64)
    assert next(made.parameters()).dtype == torch.float64  # type: ignore[union-attr]
    assert replace(given.layers[0], altered=True) != given.layers[0]


@pytest.mark.parametrize("first", [nn.Threshold(100.0, 0.0, inplace=True), nn.ReLU(inplace=True)])
def test_what_a_model_does_to_its_inputs_is_no_other_models_business(rubric: Path, first: nn.Module) -> None:
    torch.manual_seed(0)
    honest, bench = nn.Sequential(nn.Linear(4, 3), nn.Tanh()), Bench()
    before = evaluated(whole(honest, rubric, bench))
    evaluated(whole(nn.Sequential(first, nn.Linear(4, 3)), rubric, bench))
    after = evaluated(whole(honest, rubric, bench))
    assert (before.metrics, before.audits) == (after.metrics, after.audits)
    assert before.metrics[0].value not in (0.0, 1 / 3)


@pytest.mark.parametrize("families", ['["mlp"]', '["logistic", "mlp"]'])
def test_layers_say_what_was_not_declared_of_a_family(write_rubric: Callable[..., Path], families: str) -> None:
    rubric = write_rubric(changes={'families = ["logistic", "mlp"]': f"trees = true\nfamilies = {families}"})
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
    of_layers = evaluated(whole(model, rubric))
    assert (of_layers.source, of_layers.assumed) == ("tree", ())
    of_weights = evaluated(outcome_of(model, rubric))
    assert (of_weights.source, of_weights.assumed) == ("family mlp", ("activation = relu (not declared)",))
    assert of_layers.metrics != of_weights.metrics


def test_layers_that_cannot_be_built_again_leave_it_to_the_family(write_rubric: Callable[..., Path]) -> None:
    rubric = write_rubric(changes={'families = ["logistic", "mlp"]': 'trees = true\nfamilies = ["mlp"]'})
    of_family = evaluated(whole(nn.ModuleList([nn.Linear(4, 8), nn.Linear(8, 3)]), rubric))
    assert (of_family.source, of_family.assumed) == ("family mlp", ("activation = relu (not declared)",))


def test_a_file_that_was_sorted_by_name_is_told(write_rubric: Callable[..., Path]) -> None:
    rubric = write_rubric(changes={'families = ["logistic", "mlp"]': 'families = ["mlp"]\n[model.mlp]\nactivation = "relu"'})
    weights = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).state_dict()
    assert evaluated(outcome_of(weights, rubric)).assumed == ()
    assert evaluated(outcome_of(dict(sorted(weights.items())), rubric)).assumed == (BY_NAME,)
