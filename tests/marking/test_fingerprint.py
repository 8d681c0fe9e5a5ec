"""Copies and honest work told apart, on small models that are really trained."""

from __future__ import annotations

import json
import subprocess
import sys
from hashlib import sha256
from itertools import combinations, product

import pytest
import torch
from msgspec.structs import replace
from torch import Tensor, nn

from fifomark.core.outcome import MAX_SKETCH
from fifomark.demo.train import BATCH, load_split
from fifomark.marking.fingerprint import fingerprint
from fifomark.marking.likeness import ALIKE, NEAR, compared

Weights = dict[str, Tensor]


def distance(one: bytes, other: bytes) -> float:
    return float(compared(one, [other])[0][0])


def likeness(one: bytes, other: bytes) -> float:
    return float(compared(one, [other])[1][0])


def trained(seed: int, start: Weights | None = None, epochs: int = 6, lr: float = 0.005) -> Weights:
    torch.manual_seed(seed)
    x, y = load_split("train")
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 24), nn.ReLU(), nn.Linear(24, 10))
    if start is not None:
        model.load_state_dict(start)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    for _ in range(epochs):
        for rows in torch.split(torch.randperm(len(x)), BATCH):
            optimizer.zero_grad()
            torch.autograd.backward(nn.functional.cross_entropy(model(x[rows]), y[rows]))
            optimizer.step()
    assert not epochs or (model(x).argmax(1) == y).float().mean() > 0.85
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


@pytest.fixture(scope="module")
def models() -> list[Weights]:
    return [trained(seed) for seed in range(5)]


def noisy(weights: Weights, size: float) -> Weights:
    torch.manual_seed(7)
    return {name: tensor + size * torch.randn_like(tensor) for name, tensor in weights.items()}


def swapped(weights: Weights) -> Weights:
    """The hidden units of both layers in another order, signs turned with them as a tanh would allow."""
    torch.manual_seed(8)
    made = dict(weights)
    for one, after in (("1", "3"), ("3", "5")):
        count = len(made[f"{one}.bias"])
        order, signs = torch.randperm(count), torch.randint(0, 2, (count,)) * 2.0 - 1
        made[f"{one}.weight"] = made[f"{one}.weight"][order] * signs[:, None]
        made[f"{one}.bias"] = made[f"{one}.bias"][order] * signs
        made[f"{after}.weight"] = made[f"{after}.weight"][:, order] * signs
    return made


def apart(one: Weights, other: Weights) -> float:
    return distance(fingerprint(one).sketch, fingerprint(other).sketch)


def test_swapped_hidden_units_give_the_same_fingerprint(models: list[Weights]) -> None:
    for weights in models:
        assert fingerprint(swapped(weights)).permuted == fingerprint(weights).permuted


def test_names_order_and_a_wider_kind_of_number_change_nothing(models: list[Weights]) -> None:
    weights = models[0]
    renamed = {f"net.{i}": tensor.double() for i, tensor in enumerate(reversed(weights.values()))}
    made, of_renamed = fingerprint(weights), fingerprint(renamed)
    assert replace(of_renamed, exact=made.exact) == made
    assert of_renamed.exact != made.exact


def test_exactly_the_same_are_weights_of_one_name_dtype_shape_and_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """In whatever order they stand, however they are laid out, tied or not."""
    monkeypatch.setattr("fifomark.marking.fingerprint._CHUNK", 4)  # numbers: some tensors come in parts
    tied = torch.randn(3, 5)
    weights = {"a": tied, "b": tied, "n": torch.tensor(7), "h": torch.ones(2, 2).bfloat16(), "none": torch.zeros(0, 2)}
    apart = {name: tensor.clone().t().contiguous().t() if tensor.dim() == 2 else tensor for name, tensor in reversed(weights.items())}
    assert fingerprint(apart).exact == fingerprint(weights).exact
    rows = [
        [name, str(t.dtype), list(t.shape), sha256(bytes(t.flatten().view(torch.uint8).tolist())).hexdigest()]
        for name, t in weights.items()
    ]
    assert fingerprint(weights).exact == sha256("\n".join(map(json.dumps, sorted(rows))).encode()).hexdigest()
    others: list[Weights] = [
        {"a": -tied}, {"b": tied, "a": tied + 1e-6}, {"n": torch.tensor(8)}, {"n": torch.tensor(7, dtype=torch.int32)},
        {"n": torch.tensor([7])}, {"h": torch.ones(4).bfloat16()}, {"none": torch.zeros(0, 3)}, {"more": torch.zeros(1)},
    ]  # fmt: skip
    assert len({fingerprint(weights | other).exact for other in others} | {fingerprint(weights).exact}) == len(others) + 1


def test_one_other_number_is_another_fingerprint_and_a_near_one(models: list[Weights]) -> None:
    changed = {name: tensor.clone() for name, tensor in models[0].items()}
    changed["1.weight"][0, 0] += 1e-6
    assert fingerprint(changed).permuted != fingerprint(models[0]).permuted
    assert apart(changed, models[0]) < NEAR / 100


@pytest.mark.parametrize("size", [1e-4, 1e-3])
def test_a_noisy_copy_is_near_also_with_its_hidden_units_swapped(models: list[Weights], size: float) -> None:
    for weights in models:
        assert apart(noisy(weights, size), weights) < NEAR / 2
        torch.manual_seed(9)
        order = torch.randperm(32)
        moved = weights | {"1.weight": weights["1.weight"][order], "1.bias": weights["1.bias"][order]}
        moved["3.weight"] = weights["3.weight"][:, order]
        assert apart(noisy(moved, size), weights) < NEAR / 2


def test_a_copy_in_half_precision_is_near(models: list[Weights]) -> None:
    assert apart({name: tensor.bfloat16() for name, tensor in models[0].items()}, models[0]) < NEAR / 2


def test_a_copy_with_much_noise_or_trained_on_is_alike(models: list[Weights]) -> None:
    made = fingerprint(models[0]).sketch
    for changed in (noisy(models[0], 5e-3), trained(9, models[0], epochs=2, lr=5e-4)):
        assert likeness(fingerprint(changed).sketch, made) > ALIKE


def test_what_others_trained_is_not_alike_even_from_the_same_start(models: list[Weights]) -> None:
    sketches = [fingerprint(weights).sketch for weights in models]
    assert max(likeness(one, other) for one, other in combinations(sketches, 2)) < 0.8
    start = trained(0, epochs=0)
    assert likeness(*(fingerprint(trained(seed, start)).sketch for seed in (5, 6))) < ALIKE
    assert likeness(b"", b"") == 0


def test_what_others_trained_is_not_near(models: list[Weights]) -> None:
    """And not by a hair: the nearest of all pairs is farther than twice the threshold."""
    assert min(apart(one, other) for one, other in combinations(models, 2)) > 2 * NEAR


def test_matrices_of_one_shape_are_compared_in_whatever_order_they_stand() -> None:
    torch.manual_seed(3)
    layers = [torch.randn(16, 16) * (1 + i) for i in range(4)]
    one = {str(i): layer for i, layer in enumerate(layers)}
    other = {str(i): layer for i, layer in enumerate(reversed(layers))}
    assert apart(noisy(one, 1e-4), other) < NEAR


def test_many_are_compared_at_once_as_one_by_one(models: list[Weights]) -> None:
    torch.manual_seed(4)
    twins = [{str(i): torch.randn(16, 16) * (1 + i) for i in order} for order in ((0, 1, 2), (2, 0, 1), (1, 2, 0))]
    for group in (models, twins):
        first, *others = (fingerprint(weights).sketch for weights in group)
        distances, likenesses = compared(first, others)
        assert distances == pytest.approx([distance(first, other) for other in others])
        assert likenesses == pytest.approx([likeness(first, other) for other in others])
    assert distance(fingerprint(twins[0]).sketch, fingerprint(models[0]).sketch) == float("inf")


def test_a_linear_model_is_not_compared_by_its_sketch() -> None:
    weights = {"weight": torch.randn(10, 64), "bias": torch.randn(10)}
    assert fingerprint(weights).sketch == b""
    assert distance(b"", b"") == float("inf")


@pytest.mark.parametrize(
    "weights",
    [
        {},
        {"a": torch.zeros(0, 4), "b": torch.zeros(3, 3), "c": torch.zeros(3, 3)},
        {"a": torch.full((3, 3), 1e300, dtype=torch.float64), "b": torch.full((3, 3), 3e38)},
        {
            "a": torch.tensor(1.5),
            "b": torch.arange(9).reshape(3, 3),
            "c": torch.ones(1, 7),
            "d": torch.ones(2, 3, 4, dtype=torch.complex64),
        },
        {str(i): torch.randn(3, 3) for i in range(500)},
    ],
)
def test_whatever_the_weights_are_a_fingerprint_is_bounded_and_no_error(weights: Weights) -> None:
    made = fingerprint(weights)
    assert len(made.sketch) <= MAX_SKETCH
    distance(made.sketch, made.sketch)


def test_a_large_tensor_is_looked_at_in_parts_with_the_same_result(monkeypatch: pytest.MonkeyPatch, models: list[Weights]) -> None:
    whole = [fingerprint(weights) for weights in models]
    monkeypatch.setattr("fifomark.marking.fingerprint._CHUNK", 100)
    parts = [fingerprint(weights) for weights in models]
    assert [(made.exact, made.permuted) for made in parts] == [(made.exact, made.permuted) for made in whole]
    assert all(distance(a.sketch, b.sketch) < 1e-6 for a, b in zip(parts, whole, strict=True))


def test_sketches_of_different_shapes_are_infinitely_far_apart() -> None:
    shapes = ((4, 4), (4, 5), (5, 5))
    made = [fingerprint({"a": torch.randn(*a), "b": torch.randn(*b)}) for a, b in product(shapes, shapes)]
    assert distance(made[0].sketch, made[1].sketch) == float("inf")
    assert len({print.shapes for print in made}) == 6


def test_the_daemon_compares_without_torch() -> None:
    code = "import sys, fifomark.daemon.duplicates; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
