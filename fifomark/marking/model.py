"""From clean weights to a model that runs: recognised, checked, built and filled, or refused with what was seen and what is wanted.

The sources of a model, in their order: TorchScript's own code, where it may run (scripts), the rubric's own class (factories), a family's
builder, the tree of layers that was pickled (trees).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import torch
from torch import Tensor, nn

from fifomark.core.catalogue import find
from fifomark.core.errors import CannotBuild, ConfigError, DeclarationMissing, UsageError
from fifomark.core.findings import Finding
from fifomark.core.inspection import Form
from fifomark.core.layers import Layer
from fifomark.core.outcome import Original, Refused
from fifomark.core.weights import TensorSpec
from fifomark.families import registry
from fifomark.families.family import Family, Match, settle
from fifomark.families.layers import BY_NAME, sorted_by_name
from fifomark.marking.factories import Factory
from fifomark.marking.filling import cast, fill, spec_of
from fifomark.marking.running import PRECISIONS
from fifomark.marking.schema import Rubric
from fifomark.marking.scripts import NoSandbox, Script, run_script
from fifomark.marking.trees import CannotRebuild, plant


@dataclass(frozen=True)
class Built:
    """A model in eval mode on the CPU, in the precision that the rubric wants. `source` as in Evaluation.

    `declared` is what the rubric said of its family (None: it was built by none), `assumed` what nobody said.
    """

    model: nn.Module
    parameters: int
    declared: Mapping[str, Any]
    assumed: tuple[str, ...]
    source: str
    family: str | None = None

    def close(self) -> None:
        """End the process of a script; nothing where there is none."""
        if isinstance(self.model, Script):
            self.model.close()


@dataclass(frozen=True)
class Material:
    """What was submitted: the clean weights, and what their inspection says of the file. `families` are those that are known, `original`
    is a TorchScript archive that may be run."""

    weights: Mapping[str, Tensor]
    form: Form | None = None
    layers: Sequence[Layer] = ()
    families: Mapping[str, Family] = field(default_factory=lambda: registry.FAMILIES)
    original: Original | None = None

    @property
    def specs(self) -> list[TensorSpec]:
        return [spec_of(name, tensor) for name, tensor in self.weights.items()]


def rebuild(given: Material, rubric: Rubric, place: object, factory: Factory | None = None) -> Built | Refused:
    """The model that was submitted, as the rubric wants it built; `place` is the rubric's file, for messages.

    `factory` is that of the rubric, where it names one.
    """
    if given.original is not None:
        built = _of_script(given, given.original, rubric, place)
    else:
        built = _of_factory(given, rubric, factory) if factory else _recognised(given, rubric, place)
    if isinstance(built, Refused):
        return built
    most = rubric.model.max_parameters
    if most is not None and built.parameters > most:
        built.close()
        return _refused(find("FM506", "model", f"{built.parameters} parameters, where at most {most} are allowed"))
    return built


def build_model(weights: Mapping[str, Tensor], declared: Mapping[str, Any], input_shape: tuple[int, ...] | None = None) -> nn.Module:
    """The model that `weights` are, filled with them, in eval mode. `input_shape` is of one example; logistic and mlp do without.

    CannotBuild where no family fits or the weights are at fault, DeclarationMissing or ConfigError where `declared` is, UsageError
    where the family needs an `input_shape`.
    """
    specs = Material(weights).specs
    match = registry.match(specs)
    if match is None:
        seen = registry.recognise(specs)
        raise CannotBuild(seen.name, _joined(seen.evidence + seen.contradictions), "Use the usual torch.nn layers.")
    if input_shape is None:
        if "inputs" not in match.read:
            raise UsageError(f"a {match.family} model cannot be built without input_shape, the shape of one example")
        input_shape = (int(str(match.read["inputs"])),)
    return _of_family(registry.family(match.family), match, weights, declared, input_shape, "build()", torch.float32)[0]


def _of_script(given: Material, original: Original, rubric: Rubric, place: object) -> Built | Refused:
    """Misbehaved where it cannot even be loaded."""
    specs, wanted = given.specs, rubric.model.families
    match = registry.match(specs, given.families)
    if wanted and match is not None and match.family not in wanted:
        return _refused(_wrong_family(match, given, specs, wanted))
    try:
        script = run_script(original, given.weights.values(), rubric)
    except NoSandbox as e:
        raise ConfigError(
            place, "model.torchscript", f"a script cannot be run here: {e}", "leave it out, or mark on another machine"
        ) from e
    return Built(script, _held(given.weights) + script.constants // 4, {}, (), "torchscript")


_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def _held(weights: Mapping[str, Tensor]) -> int:
    """How many numbers a script holds, ties once: which of them were trained nothing tells, but that statistics were not."""
    held = [tensor for name, tensor in weights.items() if name.rpartition(".")[2] not in _STATISTICS and tensor.numel()]
    return sum({tensor.data_ptr(): tensor.numel() for tensor in held}.values())


def _of_factory(given: Material, rubric: Rubric, factory: Factory) -> Built | Refused:
    if wanted := rubric.model.families:
        specs = given.specs
        match = registry.match(specs, given.families)
        if match is None or match.family not in wanted:
            return _refused(_wrong_family(match, given, specs, wanted))
    model = factory.filled(given.weights, PRECISIONS[rubric.run.precision])
    if isinstance(model, list):
        return _refused(*model)
    return Built(model, _parameters(model, given.weights), {}, (), f"factory {factory.reference}")


def _recognised(given: Material, rubric: Rubric, place: object) -> Built | Refused:
    """By the family that the weights are of; or, where no family builds them, by the tree."""
    rules, specs = rubric.model, given.specs
    if not rules.families and not rules.trees:
        what = "a file of weights does not tell how a model computes, and the task takes TorchScript"
        return _refused(find("FM504", "model", what, advice=_SCRIPT))
    match = registry.match(specs, given.families)
    if match is None or match.family not in rules.families:
        if rules.trees and (match is None or not rules.families):
            return _of_tree(given, rubric, ())
        return _refused(_wrong_family(match, given, specs, rules.families))
    declared = rules.declared.get(match.family, {})
    if rules.trees and given.layers and not declared:  # its layers say what would else have to be assumed
        built = _of_tree(given, rubric, ())
        if isinstance(built, Built):
            return built
    dtype = PRECISIONS[rubric.run.precision]
    try:
        family = given.families[match.family]
        model, assumed = _kept_of_family(family, match, given, declared, rubric.input.shape, place, dtype)
    except CannotBuild as e:
        if e.findings:
            return Refused(findings=e.findings)
        why = find("FM504", "model", e.problem, evidence=_joined(match.evidence), advice=e.advice)
        return _of_tree(given, rubric, (why,)) if rules.trees else _refused(why)
    except DeclarationMissing as e:
        if not rules.trees:
            raise
        unsaid = f"the task does not say {', '.join(e.missing)} of a {match.family} model, and a file of weights cannot tell it"
        return _of_tree(given, rubric, (find("FM504", "model", unsaid, advice=_WHOLE),))
    return Built(model, _parameters(model, given.weights), declared, assumed, f"family {match.family}", match.family)


def _of_family(
    family: Family,
    match: Match,
    weights: Mapping[str, Tensor],
    declared: Mapping[str, Any],
    input_shape: tuple[int, ...],
    place: object,
    dtype: torch.dtype,
) -> tuple[nn.Module, tuple[str, ...]]:
    """The filled model and what was assumed; CannotBuild, with findings where the weights are at fault."""
    family.refuse(family.invariants(match))
    values, assumed = settle(family, declared, place, match)
    model = cast(family.build(match, values, input_shape), dtype)
    family.refuse(fill(model, weights))
    by_name = (BY_NAME,) if sorted_by_name([spec_of(name, tensor) for name, tensor in weights.items()]) else ()
    return model.eval(), (*assumed, *by_name, *getattr(model, "assumed", ()))


_kept: dict[bytes, tuple[nn.Module, tuple[str, ...]]] = {}


def _kept_of_family(
    family: Family,
    match: Match,
    given: Material,
    declared: Mapping[str, Any],
    input_shape: tuple[int, ...],
    place: object,
    dtype: torch.dtype,
) -> tuple[nn.Module, tuple[str, ...]]:
    """As `_of_family`; small networks of ours are kept, and filled anew: files that come in numbers often have one architecture.

    Every number of theirs is in the file, and nothing else in them changes when they run.
    """
    if family is not registry.FAMILIES.get(family.name) or sum(spec.numel for spec in given.specs) > _MOST_KEPT:
        return _of_family(family, match, given.weights, declared, input_shape, place, dtype)
    key = msgspec.json.encode([family.name, given.specs, declared, input_shape, str(dtype)])
    kept = _kept.pop(key, None)  # put back, as the newest, once it is whole
    if kept is None:
        kept = _of_family(family, match, given.weights, declared, input_shape, place, dtype)
    else:
        family.refuse(fill(kept[0], given.weights))
    _kept[key] = kept
    if len(_kept) > _NETWORKS:
        del _kept[next(iter(_kept))]
    return kept


_NETWORKS, _MOST_KEPT = 16, 1 << 20  # so many are kept, of at most so many numbers each
_SCRIPT = "Save the model as TorchScript: torch.jit.script(model).save('model.pt')."
_WHOLE = "Save the whole model, torch.save(model, 'model.pt'), made of an nn.Sequential with torch.nn's own layers."


def _of_tree(given: Material, rubric: Rubric, before: tuple[Finding, ...]) -> Built | Refused:
    """`before` says why no family builds it."""
    if given.form != "module":
        what = "a file of weights does not tell how a model computes, and the task takes whole models"
        return _refused(*(before or (find("FM504", "model", what, advice=_WHOLE),)))
    try:
        outcome = plant(given.layers, given.weights, PRECISIONS[rubric.run.precision])
    except CannotRebuild as e:
        return _refused(
            *before, find("FM504", e.path or "model", f"this model cannot be rebuilt from its description: {e}", advice=e.advice)
        )
    if isinstance(outcome, list):
        return _refused(*before, *outcome)
    return Built(outcome, _parameters(outcome, given.weights), {}, (), "tree")


def _wrong_family(match: Match | None, given: Material, specs: Sequence[TensorSpec], wanted: Sequence[str]) -> Finding:
    asked = f"the task asks for {' or '.join(wanted)}"
    if match is None:
        seen = registry.recognise(specs, given.families)
        evidence = _joined(seen.evidence + seen.contradictions)
        return find("FM504", "model", f"no kind of network fits these weights; {asked}", evidence=evidence)
    return find("FM503", "model", f"the family of this network is {match.family}; {asked}", evidence=_joined(match.evidence))


def _refused(*findings: Finding) -> Refused:
    return Refused(findings=findings)


def _parameters(model: nn.Module, weights: Mapping[str, Tensor]) -> int:
    """How many numbers were trained: parameters without buffers, tied ones once."""
    trained = [weights[name] for name, _ in model.named_parameters() if name in weights]
    return sum({tensor.data_ptr(): tensor.numel() for tensor in trained if tensor.numel()}.values())


def _joined(sentences: Iterable[str]) -> str:
    return "; ".join(sentences)
