"""Which of the things in a file are the weights, and under which names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from fifomark.core.catalogue import find
from fifomark.core.findings import Finding
from fifomark.core.inspection import Form
from fifomark.torchfile.description import Description, Entry, Group

# Where people keep a state_dict in a checkpoint; the first that is there is taken.
KNOWN_KEYS = (
    *("model_state_dict", "state_dict", "model_state", "model", "net", "network", "weights", "params", "module"),
    *("model_weights", "net_state_dict", "generator_state_dict", "classifier", "best_model", "parameters"),
)
PREFIXES = ("module.", "_orig_mod.")  # DataParallel and torch.compile; both may have wrapped, in either order
_LIGHTNING = "pytorch-lightning_version"
_NOT_WEIGHTS = re.compile(r"optim|sched|scaler|rng|callback|loops|^opt$|^amp$|^state$")
_AVERAGE = re.compile(r"(^|[^a-z])ema([^a-z]|$)")
_SHOWN = 40  # names in a message
_OF_CONV = "_reversed_padding_repeated_twice"  # which torch works out of its padding again


class Chosen(NamedTuple):
    """`form` is None and `entries` empty where no weights could be chosen; the findings say why.

    `group` is where they are from, `stripped` what their names began with there.
    """

    form: Form | None
    entries: tuple[Entry, ...]
    findings: list[Finding]
    group: Group | None = None
    stripped: str = ""


def choose(description: Description) -> Chosen:
    """The weights of the file, with the prefixes of wrappers stripped from their names."""
    groups = [group for group in description.groups if group.entries and group.kind != "sequence"]
    candidates = [group for group in groups if not any(_NOT_WEIGHTS.search(key.lower()) for key in group.path)]
    if not candidates:
        return Chosen(None, (), [_nothing(description, groups)])
    plain, averages = _plain(candidates) if len(candidates) > 1 else (candidates, [])
    best = _best(plain) if len(plain) > 1 else plain
    if len(best) > 1:
        names = ", ".join(_named(group) for group in best[:_SHOWN])
        return Chosen(None, (), [find("FM307", "the file", f"{len(best)} sets of weights: {names}", evidence=names)])
    group = best[0]
    findings = _left_out(description, group, averages)
    entries, stripped = _stripped(group.entries, _LIGHTNING in description.root_keys)
    if stripped:
        findings.append(find("FM501", _named(group), f"every name began with {stripped!r}, which a wrapper added: it was stripped"))
    if twice := _duplicate(entries):
        return Chosen(None, (), [*findings, find("FM307", twice, "two tensors have this name")])
    return Chosen(_form(group), entries, findings, group, stripped)


def _plain(candidates: list[Group]) -> tuple[list[Group], list[Group]]:
    """The candidates without the moving averages that lie beside what they average, and those."""
    averages = [group for group in candidates if any(_AVERAGE.search(step.lower()) for step in group.path)]
    named = set(map(id, averages))  # a file may have a hundred thousand groups: none is looked for among the others
    sizes = {len(group.entries) for group in candidates if id(group) not in named}
    averages = [group for group in averages if len(group.entries) in sizes]
    beside = set(map(id, averages))
    return [group for group in candidates if id(group) not in beside], averages


def _best(candidates: Sequence[Group]) -> list[Group]:
    """The one group to take, or all those that nothing decides between."""
    root = next((group for group in candidates if not group.path), None)
    nested = [group for group in candidates if group.path]
    known = _known(nested)
    if root is None or _beside(root, nested):
        return known or nested
    # A state_dict that also holds another one under a name for weights: two programs would take two different models.
    return [root, *known]


def _known(nested: Sequence[Group]) -> list[Group]:
    """Those under the first known key, one level down before two."""
    ranked = [
        ((len(g.path), KNOWN_KEYS.index(g.path[-1].lower())), g) for g in nested if g.path[-1].lower() in KNOWN_KEYS and len(g.path) <= 2
    ]
    first = min((rank for rank, _ in ranked), default=None)
    return [group for rank, group in ranked if rank == first]


def _beside(root: Group, nested: Sequence[Group]) -> bool:
    """Whether the tensors of the root are a loss or a score kept beside the weights: fewer, and not named as parameters are."""
    named_plainly = all("." not in entry.name and entry.name not in ("weight", "bias") for entry in root.entries)
    return named_plainly and any(len(group.entries) > len(root.entries) for group in nested)


def _form(group: Group) -> Form:
    if group.kind == "module":
        return "module"
    if group.kind == "script":
        return "torchscript"
    return "checkpoint" if group.path else "state_dict"


def _nothing(description: Description, groups: Sequence[Group]) -> Finding:
    if groups or {"state", "param_groups"} <= set(description.root_keys):
        return find("FM306", "the file", "there is the state of an optimizer in this file, and no weights")
    if description.root == "script":
        what = "there are no weights in this TorchScript: they are constants of its code (torch.jit.freeze), or packed (quantisation)"
        return find("FM305", "the file", what, advice="Save the script as it was before it was frozen or quantised, or model.state_dict().")
    keys = ", ".join(description.root_keys[:_SHOWN])
    what = f"there are no weights in this file: it holds {f'a mapping with the keys {keys}' if keys else f'a {description.root}'}"
    return find("FM305", "the file", what if description.root else "there are no weights in this file")


def _left_out(description: Description, group: Group, averages: Sequence[Group]) -> list[Finding]:
    """A note that names what is neither the weights nor in them."""
    if group.path:
        others = [key for key in description.root_keys if key != group.path[0]]
    else:
        others = [other.path[0] for other in description.groups if other.path]
    inside = (other.name for other in group.others if not other.name.endswith(_OF_CONV))
    names = list(dict.fromkeys([*others, *(".".join((*group.path, name)) for name in inside)]))
    if not names:
        return []
    shown = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
    said = f"left out beside the weights: {shown}"
    if averages:
        said += f"; {', '.join(map(_named, averages[:_SHOWN]))} is a moving average of the weights: the plain ones were taken"
    return [find("FM206", _named(group), said, evidence=shown)]


def _stripped(entries: tuple[Entry, ...], lightning: bool) -> tuple[tuple[Entry, ...], str]:
    """The entries without the prefixes that all their names share, and what was stripped. A Lightning checkpoint's own is "model."."""
    prefixes = (*PREFIXES, "model.") if lightning else PREFIXES
    first, done = entries[0].name, 0
    while prefix := next((p for p in prefixes if first.startswith(p, done)), None):
        whole = first[: done + len(prefix)]
        if not all(entry.name.startswith(whole) and entry.name != whole for entry in entries):
            break
        done = len(whole)
    return tuple(Entry(name=entry.name[done:], tensor=entry.tensor) for entry in entries) if done else entries, first[:done]


def _duplicate(entries: Sequence[Entry]) -> str | None:
    seen: set[str] = set()
    for entry in entries:
        if entry.name in seen:
            return entry.name
        seen.add(entry.name)
    return None


def _named(group: Group) -> str:
    return ".".join(group.path) or "the root"
