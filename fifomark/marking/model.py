"""From clean weights to a model that runs: recognised, checked, built and filled, or refused with what was seen and what is wanted."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from fifomark.core.catalogue import find
from fifomark.core.errors import CannotBuild, UsageError
from fifomark.core.findings import Finding
from fifomark.core.outcome import Refused
from fifomark.core.text import shown
from fifomark.core.weights import TensorSpec
from fifomark.families import registry
from fifomark.families.family import Match, settle
from fifomark.marking.schema import Rubric

MOST = 20  # findings of one file


@dataclass(frozen=True)
class Built:
    """A model in eval mode on the CPU, in float32. `declared` is what the rubric said of its family, `assumed` what nobody said."""

    model: nn.Module
    parameters: int
    declared: Mapping[str, Any]
    assumed: tuple[str, ...]


def rebuild(weights: Mapping[str, Tensor], rubric: Rubric, place: object) -> Built | Refused:
    """The model that `weights` are, as the rubric declares it; `place` is the rubric's file, for messages."""
    specs = _specs(weights)
    match = registry.match(specs)
    if match is None or match.family not in rubric.model.families:
        return Refused(findings=(_wrong_family(match, specs, rubric.model.families),))
    declared = rubric.model.declared.get(match.family, {})
    try:
        model, assumed = _built(match, weights, declared, rubric.input.shape, place)
    except CannotBuild as e:
        return Refused(findings=e.findings or (find("FM504", "model", str(e), evidence=_joined(match.evidence), advice=e.advice),))
    parameters = _parameters(model, weights)
    if rubric.model.max_parameters is not None and parameters > rubric.model.max_parameters:
        message = f"{parameters} parameters, where at most {rubric.model.max_parameters} are allowed"
        return Refused(findings=(find("FM506", "model", message),))
    return Built(model, parameters, declared, assumed)


def build_model(weights: Mapping[str, Tensor], declared: Mapping[str, Any], input_shape: tuple[int, ...] | None = None) -> nn.Module:
    """The model that `weights` are, filled with them, in eval mode. `input_shape` is of one example; logistic and mlp do without.

    CannotBuild where no family fits or the weights are at fault, DeclarationMissing or ConfigError where `declared` is, UsageError
    where the family needs an `input_shape`.
    """
    specs = _specs(weights)
    match = registry.match(specs)
    if match is None:
        seen = registry.recognise(specs)
        raise CannotBuild(seen.name, _joined(seen.evidence + seen.contradictions), "Use the usual torch.nn layers.")
    if input_shape is None:
        if "inputs" not in match.read:
            raise UsageError(f"a {match.family} model cannot be built without input_shape, the shape of one example")
        input_shape = (int(str(match.read["inputs"])),)
    return _built(match, weights, declared, input_shape, "build()")[0]


def _built(
    match: Match, weights: Mapping[str, Tensor], declared: Mapping[str, Any], input_shape: tuple[int, ...], place: object
) -> tuple[nn.Module, tuple[str, ...]]:
    """The filled model and what was assumed; CannotBuild, with findings where the weights are at fault."""
    family = registry.family(match.family)
    family.refuse(family.invariants(match))
    values, assumed = settle(family, declared, place, match)
    model = family.build(match, values, input_shape)
    family.refuse(fill(model, weights))
    return model.eval(), (*assumed, *getattr(model, "assumed", ()))


def fill(model: nn.Module, weights: Mapping[str, Tensor]) -> list[Finding]:
    """Copy `weights` into `model`, strictly: names, shapes and kinds of number. Findings, and an unusable model, where they do not fit.

    Half, bfloat16 and double become the model's float32. torch would also take whole numbers for real ones and complex ones for their
    real part without a word; here they are refused.
    """
    places = model.state_dict()
    misfits = ((name, _misfit(tensor, places[name])) for name, tensor in weights.items() if name in places)
    if findings := [find("FM502", name, f"{shown(name)}: {why}") for name, why in islice(((n, w) for n, w in misfits if w), MOST)]:
        return findings
    keys = model.load_state_dict(dict(weights), strict=False)
    missing = _strays(keys.missing_keys, keys.unexpected_keys, "is missing")
    return [*missing, *_strays(keys.unexpected_keys, keys.missing_keys, "is not expected")][:MOST]


def _wrong_family(match: Match | None, specs: Sequence[TensorSpec], wanted: Sequence[str]) -> Finding:
    asked = f"the task asks for {' or '.join(wanted)}"
    if match is None:
        seen = registry.recognise(specs)
        return find(
            "FM504", "model", f"no kind of network fits these weights; {asked}", evidence=_joined(seen.evidence + seen.contradictions)
        )
    return find("FM503", "model", f"the family of this network is {match.family}; {asked}", evidence=_joined(match.evidence))


def _misfit(tensor: Tensor, place: Tensor) -> str | None:
    if tensor.shape != place.shape:
        return f"has shape {tuple(tensor.shape)}, the model has {tuple(place.shape)} there"
    if tensor.is_complex() or tensor.is_floating_point() != place.is_floating_point():
        return f"holds {_word(tensor.dtype)}, the model has {_word(place.dtype)} there"
    return None


def _strays(names: Sequence[str], others: Sequence[str], problem: str) -> Iterable[Finding]:
    for name in names[:MOST]:
        # Names are a stranger's and the comparison is quadratic: few and short ones only.
        near = difflib.get_close_matches(name[:100], [other for other in others[:100] if len(other) <= 100], n=1)
        yield find("FM502", name, f"{shown(name)} {problem}" + (f"; is {near[0]!r} meant?" if near else ""))


def _parameters(model: nn.Module, weights: Mapping[str, Tensor]) -> int:
    """How many numbers were trained: parameters without buffers, tied ones once."""
    trained = [weights[name] for name, _ in model.named_parameters() if name in weights]
    return sum({tensor.data_ptr(): tensor.numel() for tensor in trained if tensor.numel()}.values())


def _specs(weights: Mapping[str, Tensor]) -> list[TensorSpec]:
    return [TensorSpec(name=name, dtype=_word(tensor.dtype), shape=tuple(tensor.shape)) for name, tensor in weights.items()]


def _word(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _joined(sentences: Iterable[str]) -> str:
    return "; ".join(sentences)
