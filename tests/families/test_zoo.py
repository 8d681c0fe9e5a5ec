"""The zoo: what share of many networks is called what it is, and that none is called another plain family."""

from __future__ import annotations

import contextlib
import random
from typing import Any

import pytest
from zoo import (
    held_out,
    held_out_odd,
    hugging_decoders,
    hugging_encoders,
    shipped,
    student_conv,
    student_dense,
    student_time,
    tricky,
    vision_attention,
    vision_classic,
    wrapped,
)
from zoo.specimen import Specimen

from fifomark.core.errors import CannotBuild
from fifomark.core.weights import TensorSpec
from fifomark.families import registry
from fifomark.families.family import Match, settle

GROUPS = (
    vision_classic,
    vision_attention,
    hugging_encoders,
    hugging_decoders,
    student_dense,
    student_conv,
    student_time,
    tricky,
    wrapped,
    shipped,
    held_out,
    held_out_odd,
)
ZOO = [specimen for group in GROUPS for specimen in group.GROUP.specimens]
SHARE = 0.97
pytestmark = pytest.mark.filterwarnings("ignore")  # torch's own about what it deprecates: old files have it all the same


def answers(zoo: list[Specimen]) -> tuple[list[str], list[str]]:
    """(rows about those not called what they are, rows about those called a plain family that they are not)."""
    missed, wrong = [], []
    for specimen in zoo:
        seen = registry.recognise(specimen.weights())
        others = ", ".join(seen.alternatives) or "-"
        row = f"{specimen.title:44} is {specimen.truth:24} called {seen.name:12} or {others:16} {seen.contradictions}"
        if not specimen.right(seen):
            missed.append(row)
        if specimen.wrong(seen):
            wrong.append(row)
    return missed, wrong


def test_the_zoo_is_called_what_it_is() -> None:
    assert len(ZOO) >= 120
    missed, wrong = answers(ZOO)
    share = 1 - len(missed) / len(ZOO)
    assert wrong == [], "\n".join(wrong)
    assert share >= SHARE, f"{share:.1%} of {len(ZOO)}\n" + "\n".join(missed)


@pytest.mark.parametrize("family", wrapped.PLAIN)
def test_names_of_modules_do_not_matter_where_the_layers_are_stock(family: str) -> None:
    dice = random.Random(5)
    state = wrapped.PLAIN[family]().state_dict()
    for _ in range(20):
        names: dict[str, str] = {}
        weights = []
        for name, tensor in state.items():
            path, _, local = name.rpartition(".")
            word = names.setdefault(path, f"{dice.choice(_SYLLABLES)}{dice.choice(_SYLLABLES)}{len(names)}")
            weights.append(TensorSpec(name=f"{word}.{local}", dtype="float32", shape=tuple(tensor.shape)))
        assert registry.recognise(weights).name == family, weights


_SYLLABLES = ("ka", "mo", "ri", "zu", "pel", "tar", "Block_", "head", "layer", "fc", "q", "out", "x")


@pytest.mark.parametrize("specimen", ZOO, ids=lambda specimen: specimen.title)
def test_a_sound_file_of_the_zoo_breaks_no_invariant_and_is_built_or_refused(specimen: Specimen) -> None:
    found = registry.match(specimen.weights())
    if found is None:
        assert registry.recognise(specimen.weights()).evidence
        return
    family = registry.family(found.family)
    assert family.invariants(found) == []
    assert found.evidence
    declared = settle(family, _DECLARED.get(family.name, {}), "x", found)[0]
    with contextlib.suppress(CannotBuild):
        model = family.build(found, declared, _example(found))
        assert set(model.state_dict()) >= {spec.name for spec in specimen.weights()}


_DECLARED: dict[str, dict[str, Any]] = {"transformer": {"nhead": 4}, "cnn": {"layers": [{"conv2d": 3}]}}


def _example(found: Match) -> tuple[int, ...]:
    """The shape of an example that fits, where that is easy to say."""
    inputs = found.read.get("inputs") or found.read.get("input_size") or 8
    return (8, int(str(inputs))) if found.family == "rnn" else (int(str(inputs)),)
