"""Models written as students write them: recognised, built from names and shapes alone, and equal in every output."""

from __future__ import annotations

import copy
import random
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from rebuilding import DIGITS, rebuilt, same, specs
from torch import nn
from torch.nn import functional as F

from fifomark.core.errors import CannotBuild, ConfigError, DeclarationMissing
from fifomark.core.weights import TensorSpec
from fifomark.families import registry
from fifomark.families.family import settle


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(7)


class Perceptron(nn.Module):
    def __init__(self, activation: Any = F.relu, norm_after: bool = False) -> None:
        super().__init__()
        self.fc1, self.fc2, self.fc3 = nn.Linear(64, 32), nn.Linear(32, 16), nn.Linear(16, 10)
        self.bn1, self.bn2 = nn.BatchNorm1d(32), nn.BatchNorm1d(16)
        self.activation, self.norm_after = activation, norm_after

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.flatten(1)
        for linear, norm in ((self.fc1, self.bn1), (self.fc2, self.bn2)):
            x = norm(self.activation(linear(x))) if self.norm_after else self.activation(norm(linear(x)))
        return self.fc3(x)


class Convolutional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 12, 3)
        self.bn1, self.bn2 = nn.BatchNorm2d(8), nn.BatchNorm2d(12)
        self.fc = nn.Linear(48, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 2)
        return self.fc(F.relu(self.bn2(self.conv2(x))).flatten(1))


CONVOLUTIONAL = [
    {"conv2d": {"kernel": 3, "padding": 1}},
    {"batchnorm2d": {}},
    {"relu": {}},
    {"maxpool2d": 2},
    {"conv2d": 3},
    {"batchnorm2d": {}},
    {"relu": {}},
    {"flatten": {}},
    {"dropout": 0.5},
    {"linear": {}},
]


class Recurrent(nn.Module):
    def __init__(self, layer: nn.Module, width: int, pooling: str = "last", vocabulary: int = 0) -> None:
        super().__init__()
        if vocabulary:
            self.embedding = nn.Embedding(vocabulary, layer.input_size)
        self.rnn = layer
        self.fc1, self.fc2 = nn.Linear(width, 12), nn.Linear(12, 4)
        self.pooling = pooling

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.embedding(x) if hasattr(self, "embedding") else x
        outputs, hidden = self.rnn(x)
        hidden = hidden[0] if isinstance(hidden, tuple) else hidden
        both = torch.cat((hidden[-2], hidden[-1]), 1) if self.rnn.bidirectional else hidden[-1]
        pooled = {"last": outputs[:, -1], "mean": outputs.mean(1), "max": outputs.amax(1), "final_hidden": both}[self.pooling]
        return self.fc2(F.relu(self.fc1(pooled)))


class Attentive(nn.Module):
    def __init__(self, vocabulary: int = 0, cls: bool = False, norm: bool = False, **options: Any) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, 16) if vocabulary else nn.Linear(8, 16)
        self.pos = nn.Parameter(torch.randn(1, 9 if cls else 8, 16))
        if cls:
            self.cls_token = nn.Parameter(torch.randn(1, 1, 16))
        layer = nn.TransformerEncoderLayer(16, 4, 24, batch_first=True, **options)
        self.encoder = nn.TransformerEncoder(layer, 2, norm=nn.LayerNorm(16) if norm else None, enable_nested_tensor=False)
        self.fc = nn.Linear(16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.embed(x)
        if hasattr(self, "cls_token"):
            x = torch.cat((self.cls_token.expand(len(x), -1, -1), x), 1)
        x = self.encoder(x + self.pos)
        return self.fc(x[:, 0] if hasattr(self, "cls_token") else x.mean(1))


@pytest.mark.parametrize("name", ["fc", "model.linear", "0"])
def test_logistic_regression_under_any_name(name: str) -> None:
    state = {f"{name}.{key}": tensor for key, tensor in nn.Linear(64, 10).state_dict().items()}
    x = torch.randn(*DIGITS)
    model = rebuilt(state, (8, 8))
    with torch.no_grad():
        assert torch.equal(model(x), F.linear(x.flatten(1), state[f"{name}.weight"], state[f"{name}.bias"]))


def test_a_bare_linear_layer_is_rebuilt_at_the_root() -> None:
    same(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), torch.randn(*DIGITS))
    original, x = nn.Linear(64, 10), torch.randn(3, 64)
    model = rebuilt(original.state_dict(), (64,)).double()
    with torch.no_grad():
        torch.testing.assert_close(model(x.double()), original.double()(x.double()))


@pytest.mark.parametrize("activation", ["relu", "tanh", "gelu", "sigmoid", "leaky_relu", "elu", "silu"])
def test_an_mlp_with_each_activation(activation: str) -> None:
    same(Perceptron(getattr(F, activation)), torch.randn(*DIGITS), {"activation": activation})


def test_an_mlp_says_where_its_norms_were_put() -> None:
    model = same(Perceptron(norm_after=True), torch.randn(*DIGITS), {"norm_position": "after_activation"})
    assert "batch norm eps = 1e-05 (torch's default)" in model.assumed  # type: ignore[operator]


def test_an_mlp_with_norms_of_its_input_and_its_layers() -> None:
    norm = nn.BatchNorm1d(64, affine=False)
    same(
        nn.Sequential(nn.Flatten(), norm, nn.Linear(64, 20, bias=False), nn.LayerNorm(20), nn.ReLU(), nn.Linear(20, 3)),
        torch.randn(*DIGITS),
    )


def test_an_mlp_with_learned_slopes() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 20), nn.PReLU(20), nn.Linear(20, 8), nn.PReLU(), nn.Linear(8, 3))
    nn.init.normal_(model[2].weight)
    same(model, torch.randn(*DIGITS), {"activation": "prelu"})
    with pytest.raises(CannotBuild, match=r"nothing says what 2\.weight \(20,\), 4\.weight \(1,\) is for") as caught:
        rebuilt(model.state_dict(), (8, 8))
    assert caught.value.advice.startswith("Leave it out, or ask whoever runs the marking ")
    assert caught.value.advice.endswith('or to declare activation = "prelu".')
    with pytest.raises(CannotBuild, match="expected 1 PReLU before it, there are 0"):
        rebuilt(nn.Sequential(nn.Linear(64, 8), nn.Linear(8, 3)).state_dict(), (8, 8), {"activation": "prelu"})


def test_an_mlp_whose_layers_are_defined_out_of_order() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.out, self.fc1, self.fc2 = nn.Linear(16, 10), nn.Linear(64, 32), nn.Linear(32, 16)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.out(F.relu(self.fc2(F.relu(self.fc1(x)))))

    model = same(Net(), torch.randn(4, 64))
    assert any("order in which they fit" in sentence for sentence in model.assumed)  # type: ignore[union-attr]


def test_a_cnn_with_a_channel_axis_or_without() -> None:
    original = Convolutional()
    x = torch.randn(5, 1, 8, 8)
    same(original, x, {"layers": CONVOLUTIONAL})
    model = rebuilt(original.state_dict(), (8, 8), {"layers": CONVOLUTIONAL})
    with torch.no_grad():
        assert torch.equal(model(x[:, 0]), original(x))
    assert any("channel axis" in sentence for sentence in model.assumed)  # type: ignore[union-attr]


def test_a_cnn_of_every_kind_of_layer() -> None:
    first = [
        nn.Conv2d(3, 8, 3, stride=2, padding="valid"),
        nn.GroupNorm(2, 8),
        nn.PReLU(),
        nn.Conv2d(8, 8, (3, 1), padding=(1, 0), groups=8),
    ]
    then = [nn.LayerNorm([8, 7, 7]), nn.LeakyReLU(0.2), nn.AvgPool2d(2), nn.Conv2d(8, 6, 1, bias=False), nn.AdaptiveAvgPool2d(1)]
    layers = [
        {"conv2d": {"kernel": 3, "stride": 2}},
        {"groupnorm": 2},
        {"prelu": {}},
        {"conv2d": {"kernel": [3, 1], "padding": [1, 0], "groups": 8}},
        {"layernorm": {}},
        {"leaky_relu": 0.2},
        {"avgpool2d": 2},
        {"conv2d": {"kernel": 1}},
        {"adaptiveavgpool2d": 1},
        "flatten",
        {"log_softmax": {}},
    ]
    same(nn.Sequential(*first, *then, nn.Flatten(), nn.LogSoftmax(1)), torch.randn(2, 3, 16, 16), {"layers": layers})


def test_a_cnn_over_time() -> None:
    original = nn.Sequential(
        nn.Conv1d(4, 8, 5, padding="same"), nn.BatchNorm1d(8), nn.Tanh(), nn.MaxPool1d(2), nn.Flatten(), nn.Linear(40, 3)
    )
    layers = [{"conv1d": {"kernel": 5, "padding": "same"}}, {"batchnorm1d": {}}, {"tanh": {}}, {"maxpool1d": 2}, "flatten", "linear"]
    same(original, torch.randn(2, 4, 10), {"layers": layers})


def test_global_average_is_the_mean_of_each_channel() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.fc = nn.Conv2d(1, 8, 3), nn.Linear(8, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(F.relu(self.conv(x)).mean((2, 3)))

    same(Net(), torch.randn(3, 1, 8, 8), {"layers": [{"conv2d": 3}, "relu", "globalavgpool", "linear"]})


@pytest.mark.parametrize(
    ("at", "entry", "says"),
    [
        (0, {"conv2d": {"kernel": 5, "padding": 1}}, "layers[0] conv2d wants a kernel of 5×5, the file has 3×3"),
        (3, {"maxpool2d": 4}, "does not fit what arrives"),
        (1, {"groupnorm": 2}, "layers[1] groupnorm is wanted, this is a batch norm"),
        (4, {"relu": {}}, "`layers` lists 1 of kind conv, the file has 2"),
        (5, {"conv2d": 3}, "`layers` lists 3 of kind conv, the file has 2"),
    ],
)
def test_a_cnn_that_is_not_what_the_task_lists_says_what_differs(at: int, entry: Any, says: str) -> None:
    layers = [*CONVOLUTIONAL]
    layers[at] = entry
    with pytest.raises(CannotBuild) as e:
        rebuilt(Convolutional().state_dict(), (1, 8, 8), {"layers": layers})
    assert says in str(e.value)
    assert [finding.code for finding in e.value.findings] == ["FM505"]


@pytest.mark.filterwarnings("ignore:LSTM with projections")  # slower without oneDNN, torch says, once
@pytest.mark.parametrize("pooling", ["last", "mean", "max", "final_hidden"])
@pytest.mark.parametrize(
    "layer",
    [
        nn.LSTM(8, 16, batch_first=True),
        nn.GRU(8, 16, 2, batch_first=True, bidirectional=True),
        nn.LSTM(8, 16, 2, batch_first=True, bidirectional=True, proj_size=6),
        nn.RNN(8, 16, batch_first=True, bias=False),
    ],
    ids=["lstm", "two-way gru", "projected lstm", "rnn"],
)
def test_a_recurrent_classifier(layer: nn.Module, pooling: str) -> None:
    width = (layer.proj_size or layer.hidden_size) * (2 if layer.bidirectional else 1)  # type: ignore[operator]
    same(Recurrent(layer, width, pooling), torch.randn(*DIGITS), {"pooling": pooling})


def test_a_recurrent_classifier_of_tokens() -> None:
    same(Recurrent(nn.LSTM(8, 16, batch_first=True), 16, vocabulary=50), torch.randint(0, 50, (4, 7)))


def test_a_plain_rnn_with_relu_and_the_wrong_batch_first() -> None:
    layer = nn.RNN(8, 16, nonlinearity="relu", batch_first=False)
    same(Recurrent(layer, 16), torch.randn(*DIGITS), {"nonlinearity": "relu", "batch_first": False})


def test_stacked_recurrent_layers_and_cells() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.cell, self.fc = nn.GRU(8, 12, batch_first=True), nn.LSTMCell(12, 6), nn.Linear(6, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            state = None
            for step in self.first(x)[0].unbind(1):
                state = self.cell(step, state)
            return self.fc(state[0])

    model = same(Net(), torch.randn(*DIGITS))
    assert any("is a cell" in sentence for sentence in model.assumed)  # type: ignore[union-attr]


@pytest.mark.parametrize("norm", [nn.LayerNorm(32), nn.BatchNorm1d(32)], ids=["layer norm", "batch norm"])
def test_a_norm_between_a_recurrent_layer_and_its_head(norm: nn.Module) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gru, self.fc = nn.GRU(8, 16, bidirectional=True, batch_first=True), nn.Linear(32, 3)
            self.norm = norm

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(self.norm(self.gru(x)[0].mean(1)))

    nn.init.normal_(norm.weight)  # type: ignore[arg-type]
    model = same(Net(), torch.randn(*DIGITS), {"pooling": "mean"})
    assert any("norm.weight (32,) is applied to what goes on" in sentence for sentence in model.assumed)  # type: ignore[union-attr]


def test_a_bare_lstm_gives_its_last_step() -> None:
    layer, x = nn.LSTM(8, 4, batch_first=True), torch.randn(*DIGITS)
    model = rebuilt(layer.state_dict(), (8, 8))
    with torch.no_grad():
        assert torch.equal(model(x), layer(x)[0][:, -1])


@pytest.mark.parametrize(
    "options", [{}, {"norm_first": True}, {"activation": "gelu"}, {"bias": False}, {"norm": True}], ids=lambda options: str(options)
)
def test_an_encoder_with_learned_positions_and_mean_pooling(options: dict[str, Any]) -> None:
    declared = {"nhead": 4} | {key: value for key, value in options.items() if key in ("norm_first", "activation")}
    same(Attentive(**options), torch.randn(*DIGITS), declared)


def test_an_encoder_of_tokens_and_one_with_a_class_token() -> None:
    same(Attentive(vocabulary=30), torch.randint(0, 30, (4, 8)), {"nhead": 4})
    same(Attentive(cls=True), torch.randn(*DIGITS), {"nhead": 4, "pooling": "cls"})


@pytest.mark.parametrize("shape", [(20, 1, 16), (1, 20, 16), (20, 16)])
def test_an_encoder_whose_positions_are_a_buffer_longer_than_the_examples(shape: tuple[int, ...]) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.encoder = nn.Linear(8, 16), nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
            self.register_buffer("pe", torch.randn(shape))
            self.fc = nn.Linear(16, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(self.encoder(self.embed(x) + self.pe.reshape(20, 16)[: x.shape[1]])[:, -1])

    same(Net(), torch.randn(*DIGITS), {"nhead": 2, "pooling": "last"})


@pytest.mark.parametrize("prefix", ["", "model."])
def test_norms_of_an_encoder_run_where_the_file_has_them(prefix: str) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.first = nn.Linear(8, 16), nn.LayerNorm(16)
            self.layers = nn.ModuleList([nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)])
            self.norm = nn.LayerNorm(16)
            self.head = nn.Sequential(nn.LayerNorm(16), nn.Linear(16, 3))
            for norm in (self.first, self.norm, self.head[0]):
                nn.init.normal_(norm.weight)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.norm(self.layers[0](self.first(self.embed(x)))).mean(1))

    original, x = Net().eval(), torch.randn(*DIGITS)
    model = rebuilt({prefix + name: tensor for name, tensor in original.state_dict().items()}, (8, 8), {"nhead": 2})
    with torch.no_grad():
        torch.testing.assert_close(model(x), original(x), rtol=0, atol=1e-6)
    assert [sentence.split()[0] for sentence in model.assumed if "is applied" in sentence] == [  # type: ignore[union-attr]
        f"{prefix}{path}.weight" for path in ("first", "norm", "head.0")
    ]


def test_a_model_whose_file_holds_no_positions_says_so() -> None:
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 1).eval()
    x = torch.randn(*DIGITS)
    model = rebuilt(encoder.state_dict(), (8, 8), {"nhead": 2})
    with torch.no_grad():
        torch.testing.assert_close(model(x), encoder(x).mean(1), rtol=0, atol=1e-6)
    assert "no positions are added: the file holds none" in model.assumed  # type: ignore[operator]


def test_another_number_of_heads_is_another_model() -> None:
    original, x = Attentive().eval(), torch.randn(*DIGITS)
    model = rebuilt(original.state_dict(), (8, 8), {"nhead": 2})
    with torch.no_grad():
        assert not torch.allclose(model(x), original(x), atol=1e-3)


def test_a_vision_transformer_with_patches_and_a_head_norm() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patch = nn.Conv2d(1, 16, 4, stride=4)
            self.pos = nn.Embedding(4, 16)
            self.blocks = nn.ModuleList(nn.TransformerEncoderLayer(16, 2, 32, batch_first=True) for _ in range(2))
            self.head = nn.Sequential(nn.LayerNorm(16), nn.Linear(16, 20), nn.ReLU(), nn.Linear(20, 10))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.patch(x).flatten(2).transpose(1, 2) + self.pos(torch.arange(4))
            for block in self.blocks:
                x = block(x)
            return self.head(x.mean(1))

    model = same(Net(), torch.randn(3, 1, 8, 8), {"nhead": 2})
    assert any("stride is its kernel" in sentence for sentence in model.assumed)  # type: ignore[union-attr]


def test_a_bare_encoder_layer_with_scaled_tokens() -> None:
    class Net(nn.TransformerEncoderLayer):
        def __init__(self) -> None:
            super().__init__(16, 2, 32, batch_first=True)
            self.tokens = nn.Embedding(40, 16)

        def forward(self, x: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
            return super().forward(self.tokens(x) * 4.0).amax(1)

    original = Net()
    state = original.state_dict()
    ordered = {name: state[name] for name in sorted(state, key=lambda name: "tokens" not in name)}
    x = torch.randint(0, 40, (3, 6))
    model = rebuilt(ordered, (6,), {"nhead": 2, "pooling": "max", "scale_embedding": True})
    with torch.no_grad():
        torch.testing.assert_close(model(x), original.eval()(x), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("original", "shape", "declared"),
    [
        (Perceptron(), (28, 28), {}),
        (nn.Linear(64, 10), (63,), {}),
        (Recurrent(nn.LSTM(8, 16, batch_first=True), 16), (8, 9), {}),
        (Recurrent(nn.LSTM(8, 16, batch_first=True), 16, vocabulary=9), (8, 8), {}),
        (Recurrent(nn.LSTM(8, 16, batch_first=True), 32), (8, 8), {}),
        (Attentive(), (8, 9), {"nhead": 4}),
        (Attentive(), (9, 8), {"nhead": 4}),
        (Attentive(), (8, 8), {"nhead": 5}),
        (Attentive(), (8, 8), {"nhead": 4, "pooling": "cls"}),
    ],
)
def test_what_does_not_fit_the_task_is_the_weights_fault(original: nn.Module, shape: tuple[int, ...], declared: dict[str, Any]) -> None:
    with pytest.raises(CannotBuild) as e:
        rebuilt(original.state_dict(), shape, declared)
    assert [finding.code for finding in e.value.findings] == ["FM505"]
    assert e.value.findings[0].where


@pytest.mark.parametrize(
    ("state", "says"),
    [
        (nn.Transformer(16, 2, 1, 1, 32, batch_first=True).state_dict(), "decoder"),
        ({f"attn.{name}.weight": torch.zeros(8, 8) for name in ("query", "key", "value")}, "nn.TransformerEncoderLayer"),
        ({**Recurrent(nn.LSTM(8, 16), 16).state_dict(), "attn.v": torch.zeros(16)}, "attn.v (16,)"),
        ({**nn.Sequential(nn.Linear(64, 8), nn.Linear(8, 2)).state_dict(), "temperature": torch.zeros(())}, "temperature ()"),
        (nn.utils.parametrizations.orthogonal(nn.Linear(64, 8)).state_dict(), "weight.0.base"),
        ({"i2h.weight": torch.zeros(8, 12), "i2o.weight": torch.zeros(3, 12)}, "i2h.weight (8, 12)"),
    ],
)
def test_what_is_recognised_and_cannot_be_built_says_what_was_seen(state: Mapping[str, torch.Tensor], says: str) -> None:
    with pytest.raises(CannotBuild) as e:
        rebuilt(state, (8, 8), {"nhead": 2} if "attn" in str(list(state)[:1]) or "decoder" in says else {})
    assert says in str(e.value)
    assert e.value.findings == ()
    assert "factory" in e.value.advice


def test_a_cnn_without_its_layers_asks_for_them() -> None:
    with pytest.raises(DeclarationMissing, match="layers"):
        rebuilt(Convolutional().state_dict(), (8, 8))
    with pytest.raises(ConfigError, match="did you mean 'layers'"):
        rebuilt(Convolutional().state_dict(), (8, 8), {"layer": []})


@pytest.mark.parametrize("name", ["forward", "steps", "_modules", "assumed", "a..b", "ein Name mit Leerzeichen", "state_dict.type"])
def test_names_that_torch_itself_uses_are_fine(name: str) -> None:
    first, second = nn.Linear(64, 8), nn.Linear(8, 3)
    state = {f"{path}.{key}": tensor for path, layer in ((name, first), ("to", second)) for key, tensor in layer.state_dict().items()}
    x = torch.randn(2, 64)
    model = rebuilt(state, (64,))
    with torch.no_grad():
        assert torch.equal(model(x), second(F.relu(first(x))))
        assert torch.equal(copy.deepcopy(model)(x), model(x))


def test_a_layer_below_another_layer_and_one_named_like_a_tensor() -> None:
    a, b, c = nn.Linear(8, 7), nn.Linear(7, 6), nn.Linear(6, 5)
    paths = {"x.weight": a, "x": b, "": c}
    state = {f"{path}.{key}" if path else key: tensor for path, layer in paths.items() for key, tensor in layer.state_dict().items()}
    x = torch.randn(2, 8)
    model = rebuilt(state, (8,))
    with torch.no_grad():
        assert torch.equal(model(x), c(F.relu(b(F.relu(a(x))))))


def test_a_file_from_before_batch_norm_counted_loads() -> None:
    original = Perceptron().eval()
    state = {name: tensor for name, tensor in original.state_dict().items() if "num_batches" not in name}
    found = registry.match(specs(state))
    assert found
    family = registry.family(found.family)
    model = family.build(found, settle(family, {}, "rubric.toml")[0], (8, 8))
    model.load_state_dict(state, strict=True)
    x = torch.randn(*DIGITS)
    with torch.no_grad():
        assert torch.equal(model(x), original(x))


@pytest.mark.parametrize("path", [".".join("a" * 2000), "training", "a.training"])
def test_names_that_torch_trips_over_are_refused(path: str) -> None:
    state = {f"{path}.weight": torch.zeros(2, 64), f"{path}.bias": torch.zeros(2)}
    with pytest.raises(CannotBuild, match="no model can have a layer called"):
        rebuilt(state, (64,))


@pytest.mark.filterwarnings("ignore:LSTM with projections")
def test_heaps_of_odd_tensors_are_refused_in_words_or_built_to_fit() -> None:
    dice = random.Random(3)
    paths = ("", "a", "b", "l.self_attn", "l.linear1", "l.norm1", "q", "k", "v", "i2h")
    locals_ = (
        "weight",
        "bias",
        "running_mean",
        "running_var",
        "weight_ih_l0",
        "weight_hh_l0",
        "weight_hr_l0",
        "weight_ih",
        "weight_hh",
        "W_q",
    )
    shapes = ((), (0,), (4,), (12, 4), (4, 4), (0, 4), (1, 1, 4), (4, 1, 3, 3), (16, 4))
    layer = {f"l.{name}": tuple(t.shape) for name, t in nn.TransformerEncoderLayer(4, 2, 4).state_dict().items()}
    rnn = {f"r.{name}": tuple(t.shape) for name, t in nn.LSTM(4, 4).state_dict().items()}
    built = 0
    for _ in range(500):
        heap = {
            f"{dice.choice(paths)}.{dice.choice(locals_)}".lstrip("."): dice.choice(shapes) for _ in range(dice.choice((1, 1, 2, 3, 6)))
        }
        heap = dice.choice(({}, {}, layer, rnn)) | heap
        built += _built_or_refused([TensorSpec(name=name, dtype="float32", shape=shape) for name, shape in heap.items()])
    assert built > 10


def _built_or_refused(weights: list[TensorSpec]) -> int:
    built = 0
    declared = {"transformer": {"nhead": 2}, "cnn": {"layers": [{"conv2d": 3}]}}
    for family in registry.FAMILIES.values():
        found = family.evidence(weights)
        for shape in ((4,), (4, 4)) if found else ():
            assert found
            try:
                model = family.build(found, settle(family, declared.get(family.name, {}), "x", found)[0], shape)
            except CannotBuild:
                continue
            built += 1
            model.load_state_dict({spec.name: torch.zeros(spec.shape) for spec in weights}, strict=True)
            tokens = len(shape) == 1 and family.name in ("rnn", "transformer")
            model(torch.zeros(2, *shape, dtype=torch.int64 if tokens else torch.float32))
    return built
