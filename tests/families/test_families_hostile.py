"""Names and shapes that a stranger chose: every answer comes, soon, and in printable words."""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable

import pytest

from fifomark.core.weights import TensorSpec
from fifomark.families import registry
from fifomark.families.names import recurrent_slot


def spec(name: str, *shape: int) -> TensorSpec:
    return TensorSpec(name=name, dtype="float32", shape=shape)


def judged(weights: list[TensorSpec]) -> None:
    seen = registry.recognise(weights)
    for sentence in (*seen.evidence, *seen.contradictions):
        assert sentence.isprintable()
        assert len(sentence) < 2000
    for family in registry.FAMILIES.values():
        if found := family.evidence(weights):
            family.invariants(found)
            for fact in family.facts.values():
                fact.matters(found)


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "weight", ".weight", "weight.", "bias", "parametrizations.weight.original1", "xparametrizations.weight.original1",
     "a\nb.weight", "\x1b[31mred.weight", "\ud800.weight", "fc.weight_ih_l", "fc.weight_ih_l00", "fc.weight_hh_l٣",
     "fc._reverse", "fc.weight_ih_l0_reverse", "self_attn.in_proj_weight", "x.self_attn.in_proj_bias", "." * 3000, "é" * 5000 + ".weight"],
)  # fmt: skip
@pytest.mark.parametrize("shape", [(), (0,), (3,), (6, 2), (2**40, 2**40), (2, 2, 2, 2, 2, 2, 2)])
def test_any_name_with_any_shape_is_answered(name: str, shape: tuple[int, ...]) -> None:
    judged([spec(name, *shape)])
    judged(
        [spec(name, *shape), spec("fc.weight", 4, 3), spec(f"{name}.bias", 4), spec(f"{name}.running_mean"), spec(f"{name}.running_var")]
    )


def test_random_heaps_of_known_names_and_odd_shapes_are_answered() -> None:
    dice = random.Random(11)
    tensors = ("weight", "bias", "running_mean", "running_var", "in_proj_weight", "q_proj_weight", "weight_g", "weight_v")
    recurrent = ("weight_ih_l0", "weight_hh_l0", "weight_hr_l0", "weight_hh_l1_reverse", "weight_ih", "weight_hh")
    locals_ = (*tensors, *recurrent, "out_proj.weight", "W_q", "to_kv")
    paths = [
        "",
        "a",
        "layers.0.self_attn",
        "layers.0.linear1",
        "layers.0.linear2",
        "layers.0.norm1",
        "layers.0.norm2",
        "q",
        "k",
        "v",
        "i2h",
    ]
    shapes = [(), (0,), (4,), (12, 4), (4, 4), (0, 4), (4, 0), (1, 1, 4), (4, 1, 3, 3), (16, 4), (4, 16)]
    for _ in range(600):
        judged(
            [spec(f"{dice.choice(paths)}.{dice.choice(locals_)}".lstrip("."), *dice.choice(shapes)) for _ in range(dice.randrange(1, 30))]
        )


def test_a_number_in_a_name_is_compared_and_never_counted_up_to() -> None:
    weights = [spec("body.1000000000.weight", 4, 4), spec("lstm.weight_ih_l9999", 16, 4), spec("lstm.weight_hh_l9999", 16, 4)]
    started = time.process_time()
    judged(weights)
    assert time.process_time() - started < 1
    assert recurrent_slot("weight_ih_l" + "9" * 4000) is None
    assert recurrent_slot("weight_ih_l12_reverse") == ("weight_ih", 12, True)


MANY = 20_000
HEAPS: dict[str, Callable[[int], TensorSpec]] = {
    "linear layers": lambda at: spec(f"layers.{at // 2}.{('weight', 'bias')[at % 2]}", *((8, 8), (8,))[at % 2]),
    "norms and linear layers": lambda at: spec(f"{at}.weight" if at % 2 else f"{at - 1}x.weight", *((8, 8) if at < MANY // 2 else (8,))),
    "embeddings": lambda at: spec(f"embedding{at}.weight", 500 + at, 8),
    "recurrent levels": lambda at: spec(f"lstm.weight_{('ih', 'hh')[at % 2]}_l{at // 2}", 32, 8),
    "recurrent layers": lambda at: spec(f"lstm{at // 2}.weight_{('ih', 'hh')[at % 2]}_l0", 32, 8),
    "attention": lambda at: spec(f"{at // 3}.{('q', 'k', 'v')[at % 3]}.weight", 8, 8),
    "fused attention": lambda at: spec(f"{at}.self_attn.in_proj_weight", 24, 8),
    "lists of projections": lambda at: spec(f"attn{at // 4}.linears.{at % 4}.weight", 8, 8),
    "heads in lists": lambda at: spec(f"a{at // 60}.{'qkv'[at % 3]}.{at // 3 % 20}.weight", 8, 8),
    "one attention in a crowd": lambda at: spec(f"x.{'qkv'[at]}.weight" if at < 3 else f"x.{at}.weight", 8, 8),
    "deep blocks": lambda at: spec(f"{'deep.' * 12}{at // 3}.{'qkv'[at % 3]}.weight", 8, 8),
    "gates": lambda at: spec(f"cell{at % 7}.forget_gate{at}.weight", 8, 16),
    "pruned layers": lambda at: spec(f"l{at // 2}.weight_{('orig', 'mask')[at % 2]}", 8, 8),
    "weight norm": lambda at: spec(f"l{at // 2}.parametrizations.weight.original{at % 2}", *((8, 1), (8, 8))[at % 2]),
    "parametrizations": lambda at: spec(f"parametrizations.weight.{at}", 8, 8),
    "pairs of blocks": lambda at: spec(f"{at}.weight", *((8, 4), (4, 8))[at % 2]),
    "plain tensors": lambda at: spec(f"p{at}", 8, 8),
    "long names": lambda at: spec(f"{'deep.' * 400}{at}.weight", 8, 8, 3, 3),
}


@pytest.mark.parametrize("heap", HEAPS)
def test_twenty_thousand_tensors_are_judged_in_under_a_second(heap: str) -> None:
    weights = [HEAPS[heap](at) for at in range(MANY)]
    gc.collect()
    gc.freeze()  # what the tests before have left is not to be looked through meanwhile; a writer has nothing like it
    started = time.process_time()
    registry.recognise(weights)
    assert time.process_time() - started < 1.0
    started = time.process_time()
    judged(weights)
    assert time.process_time() - started < 5.0
