"""The rules on code: what loading the file as a pickle would have run, and what that makes of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from fifomark.core.catalogue import find
from fifomark.core.findings import MAX_TEXT, Finding, Level
from fifomark.core.policy import Policy
from fifomark.core.text import shown
from fifomark.sanitizer.allowlist import BUILDING_BLOCKS, PLAIN_DATA, from_unknown_package
from fifomark.torchfile.description import Description, GlobalUse

CODE = frozenset({"FM201", "FM202", "FM211"})  # what a policy may disarm
RUNS = frozenset({"FM201", "FM211"})
MAX_FINDINGS = 200  # a file may name ten thousand globals
MAX_CALLS = 100


class CodeSeen(NamedTuple):
    """`would_run`: the calls that are not allowed, in the words of Python ("posix.system('…')"), at most MAX_CALLS."""

    findings: list[Finding]
    would_run: tuple[str, ...]


def judge(description: Description, policy: Policy) -> CodeSeen:
    """A finding for each global that is not a building block used as it should be, the worst first, at most MAX_FINDINGS."""
    calls: dict[str, list[str]] = {}
    for call in description.calls:
        calls.setdefault(call.name, []).append(call.text)
    found: list[Finding] = []
    texts: dict[str, None] = {}
    for use in description.globals:
        made = calls.get(use.name) or [f"{use.name}()"]
        if finding := _judged(use, made, description.container, policy):
            found.append(finding)
            texts.update(dict.fromkeys(made if finding.code in RUNS else ()))
    if description.container == "torchscript":
        found.append(_script(policy))
    found.sort(key=lambda finding: -finding.level.rank)
    return CodeSeen(found[:MAX_FINDINGS], tuple(shown(text, MAX_TEXT) for text in texts)[:MAX_CALLS])


def _script(policy: Policy) -> Finding:
    if policy.torchscript:
        message = "the file is a TorchScript archive: its code is run in a sandbox, as the task allows, and left out of the clean file"
        return find("FM204", "code/", message, advice="Nothing to do: the task takes TorchScript.")
    return find("FM204", "code/", "the file is a TorchScript archive: its code was left out")


def disarmed(findings: Sequence[Finding]) -> list[Finding]:
    """The same findings where the operator wants the weights all the same: what could run is dropped, and that is a warning."""
    if not any(f.code in CODE for f in findings):
        return list(findings)
    kept = [find(f.code, f.where, f.message, evidence=f.evidence, level=Level.WARNING) if f.code in CODE else f for f in findings]
    return [*kept, find("FM210", "the file", "what could run was dropped, and the weights were kept")]


def _judged(use: GlobalUse, calls: list[str], container: str | None, policy: Policy) -> Finding | None:
    # A global is referred to before it is used, so a reference says something only where it is all.
    name, uses = use.name, frozenset(use.uses) - {"reference"}
    if name.startswith("torch.jit._pickle.") and uses and container != "torchscript":
        return find("FM211", use.where, f"{name} belongs in TorchScript only: it hands on whatever it is given", evidence="; ".join(calls))
    if block := BUILDING_BLOCKS.get(name) or PLAIN_DATA.get(name):
        if not uses <= block.uses:
            return find("FM211", use.where, f"{name} is {block.reason}; {_otherwise(uses - block.uses)}", evidence="; ".join(calls))
        return None if name in BUILDING_BLOCKS else find("FM205", use.where, f"{name} was left out ({block.reason})", level=Level.WARNING)
    if name in policy.allow and "patch" not in uses:
        return find("FM205", use.where, f"{name} was left out (allowed by the operator)", level=Level.WARNING)
    if name == "builtins.getattr" and uses == {"attribute"}:
        return None  # what it fetches is a global of its own
    if name.startswith("__torch__.") and container == "torchscript" and (uses == {"script"} or policy.torchscript):
        return None  # what the whole archive is, and said of it once
    if uses == {"module"} and from_unknown_package(name):
        return find("FM203", use.where, f"the class {name} is not known here: its weights were taken, its code was not")
    if uses:
        return find("FM201", use.where, f"loading this file with pickle would run {calls[0]}", evidence="; ".join(calls))
    return find("FM202", use.where, f"loading this file with pickle would import {name}", evidence=name)


def _otherwise(wrong: frozenset[str]) -> str:
    return (
        "here it is given what no honest file gives it"
        if "misuse" in wrong
        else f"here it is used in another way ({', '.join(sorted(wrong))})"
    )
