"""The checks of a rubric's [model]: where a model to mark is to come from, and whether that can be. Nothing is imported for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from fifomark import plugins
from fifomark.core.errors import ConfigError, DeclarationMissing
from fifomark.families import registry
from fifomark.families.family import Family, did_you_mean, settle
from fifomark.marking.python import check_callable
from fifomark.marking.schema import ModelRules, Rubric
from fifomark.sandbox.enter import available

Problem = tuple[str, str, str]  # key, problem, hint


def check_model(rubric: Rubric, path: Path) -> Iterator[Problem]:
    """What is wrong with [model] of the rubric at `path`; ConfigError where it says so itself."""
    rules = rubric.model
    if not rules.families and rules.factory is None and not rules.trees and not rules.torchscript:
        ways = 'name families = ["mlp", …], a factory = "models:Net", trees = true, or torchscript = true'
        yield "model", "says of no model where it comes from", ways
    yield from _check_factory(rules, path)
    if rules.trees and "module" not in rubric.submission.accept:
        yield "model.trees", "needs pickled modules, which submission.accept leaves out", 'add "module" there'
    yield from _check_torchscript(rubric)
    for family in rules.families:
        if family not in registry.FAMILIES and not plugins.is_there(plugins.FAMILIES, family):
            known = (*registry.FAMILIES, *plugins.names(plugins.FAMILIES))
            yield "model.families", f"{family!r} is no family", did_you_mean(family, known)
        elif family not in registry.FAMILIES:
            plugins.check(plugins.FAMILIES, family, path, "model.families")
        elif rules.factory is None:
            yield from check_facts(rules, registry.family(family), path)
    if rules.factory is None:  # after the families themselves: one that is misspelt would make its facts a stranger's
        yield from _check_declared(rules, path)


def check_facts(rules: ModelRules, family: Family, path: object) -> Iterator[Problem]:
    """What is wrong with what is declared of a family. With trees, a file may tell what is not declared."""
    name = family.name
    try:
        settle(family, rules.declared.get(name, {}), path)
    except DeclarationMissing as e:
        if not rules.trees:
            yield f"model.{name}", f"does not declare {', '.join(e.missing)}", "a file of weights cannot tell it"
    except ConfigError as e:
        yield f"model.{name}.{e.key}", e.problem, e.hint


def _check_factory(rules: ModelRules, path: Path) -> Iterator[Problem]:
    if rules.factory is None:
        if rules.args:
            yield "model.args", "are given to nothing", "they are the factory's"
        return
    check_callable(path.parent, rules.factory, path, "model.factory")
    if rules.trees:
        yield "model.trees", "and model.factory exclude each other", "a factory makes every model: leave trees out"
    if rules.declared:
        yield f"model.{next(iter(rules.declared))}", "declares facts that nobody asks for", "the factory says how a model computes"


def _check_torchscript(rubric: Rubric) -> Iterator[Problem]:
    if not rubric.model.torchscript:
        return
    if "torchscript" not in rubric.submission.accept:
        yield "model.torchscript", "needs TorchScript, which submission.accept leaves out", 'add "torchscript" there'
    if rubric.run.device == "cuda":
        yield "model.torchscript", 'and run.device = "cuda" exclude each other', "a script is run on the CPU, where it can be locked in"
    if not available().seccomp:
        yield "model.torchscript", "cannot be kept on this machine: it has no seccomp to lock a script in", "leave it out"


def _check_declared(rules: ModelRules, path: Path) -> Iterator[Problem]:
    for family in rules.declared:
        if family not in rules.families:
            yield f"model.{family}", "declares facts of a family that is not in model.families", did_you_mean(family, rules.families)
